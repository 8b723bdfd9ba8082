// Takes the README's pictures from a running demo whose approval card waits:
//
//   node deploy/pictures/take.mjs http://127.0.0.1:7717 deploy/pictures
//
// Needs playwright-core (npm) and a Chromium: CHROMIUM=/usr/bin/chromium by default.
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const { chromium } = createRequire(path.join(process.cwd(), "node_modules/"))("playwright-core");
const [base = "http://127.0.0.1:7717", folder = "deploy/pictures"] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1480, height: 1000 }, colorScheme: "dark", reducedMotion: "reduce" });
const page = await context.newPage();
await page.goto(base);
await page.locator("#centre .message .replies").last().click();
const thread = page.locator("#thread");
await thread.getByText("What speaks for it").waitFor();
await page.waitForTimeout(600);
await thread.getByText("What speaks for it").evaluate((node) => node.closest(".message").scrollIntoView({ block: "start" }));
await page.waitForTimeout(300);
await page.screenshot({ path: path.join(folder, "diagnosis.png") });
await thread.getByRole("button", { name: "Approve" }).evaluate((node) => node.scrollIntoView({ block: "end" }));
await page.waitForTimeout(300);
await page.screenshot({ path: path.join(folder, "approval.png") });
await thread.getByRole("button", { name: "Approve" }).click();
await page.locator("dialog").getByRole("button", { name: "Approve" }).click();
await page.locator("#centre").getByText("Resolved").first().waitFor({ timeout: 120000 });
await page.getByText("timeline and evidence in full").click();
await page.waitForTimeout(1500);
await page.getByRole("heading", { name: "Evidence" }).first().evaluate((node) => node.scrollIntoView({ block: "start" }));
await page.waitForTimeout(500);
await page.screenshot({ path: path.join(folder, "incident.png") });
await browser.close();
