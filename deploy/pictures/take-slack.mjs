// Takes the README's picture of Slack from the page of the emulator (tests/slack-emulator.yaml) in which
// a night was told, for example by the test of tests/it/slack/night.rs:
//
//   node deploy/pictures/take-slack.mjs http://127.0.0.1:4320 deploy/pictures
//
// Needs playwright-core (npm) and a Chromium: CHROMIUM=/usr/bin/chromium by default.
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const { chromium } = createRequire(path.join(process.cwd(), "node_modules/"))("playwright-core");
const [base = "http://127.0.0.1:4320", folder = "deploy/pictures"] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1480, height: 1000 }, reducedMotion: "reduce" });
const page = await context.newPage();
await page.goto(base);
await page.getByText(/\d+ repl(y|ies)/).last().click();
await page.waitForTimeout(800);
await page.screenshot({ path: path.join(folder, "slack.png") });
await browser.close();
