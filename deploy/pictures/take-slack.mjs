// Takes the README's picture of Slack: golden cards (tests/golden/cards, the very blocks that Slack is
// sent) drawn by an open renderer of Block Kit, and the two pictures that lie in the thread.
//
//   npm install playwright-core esbuild react@18 react-dom@18 slack-blocks-to-jsx
//   node deploy/pictures/take-slack.mjs [FOLDER WITH signals.png AND topology.png]
//
// Needs a font with emoji and a Chromium: CHROMIUM=/usr/bin/chromium by default. Run it where node_modules lies.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const require = createRequire(path.join(process.cwd(), "node_modules/"));
const { chromium } = require("playwright-core");
const esbuild = require("esbuild");
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const pictures = process.argv[2];

/** The blocks are the JSON array after the plain text. */
async function card(name) {
  const text = await readFile(path.join(root, "tests/golden/cards", `${name}.txt`), "utf8");
  const start = text.search(/^\[$/m);
  const end = text.indexOf("\n]", start);
  // The renderer takes `verbatim` for "no markup"; to Slack it means "make no links of plain text".
  return JSON.parse(text.slice(start, end + 2), (key, value) => (key === "verbatim" ? undefined : value));
}

const image = async (name) => pictures && `data:image/png;base64,${(await readFile(path.join(pictures, name))).toString("base64")}`;
const cards = { open: await card("root-waiting"), diagnosis: await card("diagnosis-likely"), approval: await card("approval-medium") };
const shown = [await image("signals.png"), await image("topology.png")].filter(Boolean);

const program = `
  import React from "react";
  import { createRoot } from "react-dom/client";
  import { Message } from "slack-blocks-to-jsx";
  import "slack-blocks-to-jsx/dist/style.css";
  const logo = "data:image/svg+xml," + encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" width="36" height="36"><rect width="36" height="36" rx="6" fill="#2b3a67"/><text x="18" y="25" font-size="20" font-family="sans-serif" text-anchor="middle" fill="#fff">m</text></svg>');
  const cards = ${JSON.stringify(cards)}, shown = ${JSON.stringify(shown)};
  const said = (blocks, key) => React.createElement(Message, { key, blocks, logo, name: "midwatch", time: new Date("2026-11-14T02:04:00Z"), theme: "light" });
  const column = (key, ...inner) => React.createElement("div", { key, style: { width: 660, flex: "none" } }, inner);
  const pictures = shown.map((src, at) => React.createElement("img", { key: at, src, style: { width: 420, margin: "8px 0 8px 60px", border: "1px solid #ddd", borderRadius: 8, display: "block" } }));
  createRoot(document.getElementById("page")).render(React.createElement("div", { style: { display: "flex", gap: 24, padding: 16, fontFamily: "Lato, Arial, sans-serif", alignItems: "flex-start", background: "#fff" } },
    column("channel", said(cards.open, "a"), ...pictures), column("thread", said(cards.diagnosis, "b"), said(cards.approval, "c"))));
`;
const built = await esbuild.build({
  stdin: { contents: program, resolveDir: process.cwd(), loader: "jsx" }, bundle: true, write: false, outdir: "out",
  define: { "process.env.NODE_ENV": '"production"' },
});
const of = (end) => built.outputFiles.find((file) => file.path.endsWith(end))?.text ?? "";
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const page = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
await page.setContent(`<!doctype html><meta charset="utf-8"><style>${of(".css")}</style><div id="page"></div>`);
await page.addScriptTag({ content: of(".js") });
await page.waitForTimeout(1000);
await page.locator("#page").screenshot({ path: path.join(root, "deploy/pictures/slack.png") });
await browser.close();
