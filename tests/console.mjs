// Walks through a running console as a person would, with mouse and with keyboard only.
//
//   node tests/console.mjs http://127.0.0.1:7717 screenshots/ [--strict] [--reject]
//
// Needs playwright-core (npm) and a Chromium: CHROMIUM=/usr/bin/chromium by default. The console
// must show an incident whose thread has evidence. Voting and deciding are skipped, and said to be,
// when the thread offers neither; with --strict that is a failure.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

import { playApart } from "./console_apart.mjs";

const { chromium } = createRequire(path.join(process.cwd(), "node_modules/"))("playwright-core");

const [base = "http://127.0.0.1:7717", folder = "screenshots"] = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const strict = process.argv.includes("--strict");
/** Decides against the plan and ends there: what was rejected is not proposed again. */
const rejecting = process.argv.includes("--reject");
await mkdir(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const complaints = [];

async function open(size, colorScheme, address = "/", prepare = async () => {}) {
  const context = await browser.newContext({ viewport: size, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  // The estate beside it may take the cores for a while.
  page.setDefaultTimeout(90_000);
  page.on("console", (line) => ["error", "warning"].includes(line.type()) && complaints.push(`${address}: ${line.text()}`));
  page.on("pageerror", (error) => complaints.push(`${address}: ${error.stack}`));
  page.on("request", (request) => request.url().startsWith(base) || complaints.push(`foreign request ${request.url()}`));
  await prepare(page);
  await page.goto(base + address);
  await page.locator("#side li a").first().waitFor({ state: "attached" });
  return page;
}

const shot = (page, name) => page.screenshot({ path: path.join(folder, `${name}.png`) });

async function fits(page, name) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `${name} is ${over} px too wide`);
}

async function step(name, body) {
  const missing = await body();
  assert.ok(!missing || !strict, `${name}: ${missing}`);
  console.log(missing ? `--  ${name}: skipped, ${missing}` : `ok  ${name}`);
}

async function done() {
  await browser.close();
  assert.deepEqual(complaints, [], "the browser has nothing to complain about");
  console.log("ok  no complaint in the browser's console");
  process.exit(0);
}

const wide = { width: 1400, height: 900 };
const phone = { width: 390, height: 844 };
const page = await open(wide, "dark");
const thread = page.locator("#thread");
/** The newest incident that has a thread; questions of people have no tone. */
const incidentIn = (view) => view.locator('#centre .message[class*="tone-"]', { has: view.locator(".replies strong") }).last();
const rootWithPlan = incidentIn(page);

await step("the conversation shows the incident", async () => {
  await rootWithPlan.waitFor();
  await shot(page, "chat-dark");
  await rootWithPlan.locator(".replies").click();
  await thread.locator(".message").nth(1).waitFor();
  await page.waitForTimeout(400);
  await shot(page, "thread-dark");
});

let incident = "";
await step("an evidence mark opens the drawer, Esc closes it and gives the focus back", async () => {
  const chip = thread.locator("[data-evidence]").first();
  incident = (await chip.getAttribute("data-evidence")).split(".")[0];
  await chip.click();
  const drawer = page.locator("dialog.drawer");
  await drawer.locator(".lead").waitFor();
  await page.waitForTimeout(300);
  await shot(page, "evidence-dark");
  await page.keyboard.press("Escape");
  await drawer.waitFor({ state: "detached" });
  assert.ok(await chip.evaluate((node) => node === document.activeElement), "focus returns to the mark");
});

await step("a vote can be given, and changed with a reason", async () => {
  const up = thread.locator('[data-action="thumbs_up"]').first();
  if ((await up.count()) === 0) return "no diagnosis to vote on";
  await up.click();
  await thread.locator('[data-action="thumbs_up"][aria-pressed="true"]').first().waitFor();
  await thread.getByText("votes: 1 helpful, 0 wrong").waitFor({ timeout: 20_000 });
  await thread.locator('[data-action="thumbs_down"]').first().click();
  const form = page.locator("dialog form");
  await form.locator("select").selectOption({ index: 2 });
  await shot(page, "thumbs-down-dark");
  await form.locator("textarea").fill("a restart would have done");
  await form.locator('button[type="submit"]').click();
  await thread.getByText("votes: 0 helpful, 1 wrong").waitFor({ timeout: 20_000 });
});

await step("a rejection asks for a reason and can be left", async () => {
  const reject = thread.locator('[data-action="reject"]').first();
  if ((await reject.count()) === 0) return "nothing to reject";
  await reject.click();
  await page.locator("dialog textarea").waitFor();
  await shot(page, "reject-dark");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal(await thread.locator('[data-action="reject"]').count(), 1, "nothing was decided");
});

/** Tab until the element has the focus, as somebody without a mouse does. */
async function tabTo(selector, most = 250) {
  for (let n = 0; n < most; n += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} is not reached by Tab`);
}

if (rejecting) await step("a rejection with its reason is told in the card, by keyboard alone", async () => {
  if ((await thread.locator('[data-action="reject"]').count()) === 0) return "nothing to reject";
  await thread.locator(".log").focus();
  await tabTo('#thread [data-action="reject"]');
  await page.keyboard.press("Enter");
  await page.locator("dialog textarea").waitFor();
  await page.keyboard.type("first look at the <b>pool</b>");
  await page.keyboard.press("Control+Enter");
  await thread.getByText("first look at the <b>pool</b>").first().waitFor({ timeout: 20_000 });
  // The reason is told in a note of its own; the card is edited beside it.
  await page.waitForFunction(() => document.querySelectorAll('#thread [data-action="approve"]').length === 0, null, { timeout: 20_000 });
  await shot(page, "rejected-dark");
});

if (rejecting) await done();

await step("an approval asks once more, and the card changes, by keyboard alone", async () => {
  if ((await thread.locator('[data-action="approve"]').count()) === 0) return "nothing to approve";
  const before = await thread.locator('[data-action="approve"]').count();
  await thread.locator(".log").focus();
  await tabTo('#thread [data-action="approve"]');
  await page.keyboard.press("Enter");
  await page.locator("dialog [data-confirm]").waitFor();
  await shot(page, "approve-dark");
  await page.keyboard.press("Enter");
  await page.waitForFunction((count) => document.querySelectorAll('#thread [data-action="approve"]').length < count, before, { timeout: 20_000 });
  await thread.getByText(/^Approved by/).first().waitFor({ timeout: 20_000 });
  await shot(page, "approved-dark");
});

await step("every button that asks opens a form that can be left", async () => {
  const asking = await page.evaluate(async () => Object.keys(await (await fetch("/api/forms")).json()));
  assert.ok(asking.includes("silence") && asking.includes("reject"), String(asking));
  let seen = 0;
  for (const action of asking) {
    const button = page.locator(`#centre [data-action="${action}"]`).last();
    if ((await button.count()) === 0) continue;
    await button.click();
    await page.locator("dialog form").waitFor();
    await shot(page, `form-${action}-dark`);
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "detached" });
    seen += 1;
  }
  assert.ok(seen > 0, "the root message has buttons that ask");
});

await step("/ops help is completed and answered", async () => {
  const field = thread.locator(".composer textarea");
  const before = await thread.locator(".message").count();
  await field.fill("/ops he");
  await thread.locator(".hints li").first().waitFor();
  await shot(page, "hints-dark");
  await field.press("Tab");
  assert.match(await field.inputValue(), /^\/ops help/);
  await field.press("Enter");
  await page.waitForFunction((count) => document.querySelectorAll("#thread .message").length >= count + 1, before, { timeout: 20_000 });
});

/** What a command needs to be whole; those that are not named here need nothing. */
const EXAMPLES = {
  diagnose: "checkout", explain: incident, runbook: "connection pool", risk: "checkout", merge: "INC-98 into INC-99 because one database",
  split: `${incident} nobody because its own bug`, noise: "INC-99 because a test", silence: "service=nobody 30m a test",
  unsilence: "S99", pause: "a test", remember: "the pool of session is small", forget: "N99", audit: incident,
  handover: "INC-99 to @you because a test", channel: "INC-99", followup: "INC-99 look at the pool", approve: "INC-99.P1", reject: "INC-99.P1 no", ask: "INC-99.P1 why",
};

await step("each command is answered", async () => {
  const field = thread.locator(".composer textarea");
  // A list of hints is short; every letter asks for those that begin with it.
  const commands = await page.evaluate(async () => {
    const names = new Set();
    for (const letter of "abcdefghijklmnopqrstuvwxyz") {
      const hints = await (await fetch(`/api/hints?text=${letter}`)).json();
      hints.forEach(({ text }) => names.add(text.trim().split(" ")[0]));
    }
    return [...names];
  });
  assert.ok(commands.length >= 10, String(commands));
  // Paused last and resumed after it, so that the night goes on.
  const order = [...commands.filter((name) => !["pause", "resume"].includes(name)), ...["pause", "resume"].filter((name) => commands.includes(name))];
  for (const name of order) {
    const from = await thread.locator(".message.from-watch").count();
    await field.fill(`/ops ${name} ${EXAMPLES[name] ?? ""}`.trim());
    await field.press("Enter");
    await page.waitForFunction((count) => document.querySelectorAll("#thread .message.from-watch").length > count, from, { timeout: 30_000 }).catch(() => assert.fail(`/ops ${name} is not answered`));
  }
  console.log(`    ${order.join(", ")}`);
});

await step("the incident's page tells the whole story", async () => {
  await page.goto(`${base}/incident/${incident}`);
  await page.locator(".masthead .headline").waitFor();
  await page.waitForTimeout(500);
  await shot(page, "incident-dark");
  const height = await page.locator(".sheet").evaluate((node) => node.scrollHeight + 80);
  await page.setViewportSize({ width: 1400, height });
  await page.waitForTimeout(600);
  await shot(page, "incident-whole-dark");
  const broken = await page.evaluate(() => document.querySelectorAll(".missing").length);
  assert.equal(broken, 0, "every picture is there");
  await page.setViewportSize(wide);
});

await step("the keyboard alone reaches thread, evidence and composer", async () => {
  await page.goto(`${base}/`);
  await page.locator("#centre .replies").last().waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("j");
  const wanted = await rootWithPlan.getAttribute("data-ts");
  const reached = () => page.evaluate((ts) => document.activeElement.closest(".message")?.dataset.ts === ts, wanted);
  for (let n = 0; n < 200 && !(await reached()); n += 1) await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await thread.locator(".message").first().waitFor();
  for (let n = 0; n < 40; n += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.matches("#thread [data-evidence]"))) break;
  }
  await page.keyboard.press("Enter");
  await page.locator("dialog.drawer").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("dialog.drawer").waitFor({ state: "detached" });
  await page.keyboard.press("/");
  assert.ok(await page.evaluate(() => document.activeElement.matches("#thread .composer textarea")), "slash goes to the composer");
  await page.keyboard.press("Escape");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Escape");
  await thread.waitFor({ state: "hidden" });
});

await step("a question in the channel opens the thread where the answer comes", async () => {
  const question = `is <b>anything</b> wrong? ${Date.now()}`;
  const field = page.locator("#centre .composer textarea");
  await field.fill(question);
  await field.press("Enter");
  await thread.locator(".message.from-person", { hasText: question }).waitFor();
  await thread.locator(".message.from-watch").first().waitFor({ timeout: 60_000 });
  await page.keyboard.press("Escape");
  await thread.waitFor({ state: "hidden" });
});

await step("what is said while a thread is being read stands in it", async () => {
  const root = page.locator("#centre .message.from-person", { has: page.locator(".replies strong") }).last();
  const ts = await root.getAttribute("data-ts");
  const said = `and is it still? ${Date.now()}`;
  const before = await root.locator(".replies strong").textContent();
  await page.route("**/api/thread*", async (route) => {
    const response = await route.fetch();
    await page.evaluate(async ([ts, text]) => {
      const channel = document.querySelector("#centre h1").textContent.slice(1);
      const headers = { "content-type": "application/json", "x-midwatch-act": crypto.randomUUID() };
      const sent = await fetch("/api/act", { method: "POST", headers, body: JSON.stringify({ kind: "mention", text, channel, thread: ts }) });
      if (!sent.ok) throw new Error(await sent.text());
    }, [ts, said]);
    await root.locator(".replies strong", { hasNotText: before }).waitFor();
    await route.fulfill({ response });
  }, { times: 1 });
  await root.locator(".replies").click();
  await thread.locator(".message.from-person", { hasText: said }).waitFor();
  await page.keyboard.press("Escape");
  await thread.waitFor({ state: "hidden" });
});

await step("what was asked for before the reader went on does not take the page", async () => {
  let letGo;
  const held = new Promise((isHeld) => page.route("**/api/incidents/*", async (route) => {
    const late = new Promise((goOn) => { letGo = goOn; });
    isHeld();
    await late;
    await route.continue();
  }, { times: 1 }));
  await page.locator("#side .incident-link").first().click();
  await held;
  await page.locator("#side li a", { hasText: "#" }).first().click();
  await page.locator("#centre .composer").waitFor();
  const arrived = page.waitForResponse("**/api/incidents/*");
  letGo();
  await arrived;
  await page.waitForTimeout(300);
  assert.ok(await page.locator("#centre .composer").isVisible(), "the conversation stays");
});

await playApart({ base, complaints, incident, incidentIn, open, step, wide });

await step("a reload keeps the place", async () => {
  await page.goto(`${base}/watch`);
  await page.locator(".headline").waitFor();
  await page.waitForTimeout(300);
  await shot(page, "watch-dark");
  await page.reload();
  await page.locator(".headline").waitFor();
});

await step("390 px wide it is usable, and nothing sticks out", async () => {
  const small = await open(phone, "light");
  await small.locator("#centre .message").first().waitFor();
  await small.waitForTimeout(300);
  await fits(small, "the conversation");
  await shot(small, "phone-chat-light");
  await small.locator(".menu").click();
  await small.waitForTimeout(300);
  await shot(small, "phone-menu-light");
  await small.keyboard.press("Escape");
  await incidentIn(small).locator(".replies").click();
  await small.locator("#thread .message").nth(1).waitFor();
  await small.waitForTimeout(400);
  await fits(small, "the thread");
  await shot(small, "phone-thread-light");
  await small.locator("#thread [data-evidence]").first().click();
  await small.locator("dialog.drawer .lead").waitFor();
  await small.waitForTimeout(300);
  await shot(small, "phone-evidence-light");
  await small.keyboard.press("Escape");
  await small.goto(`${base}/incident/${incident}`);
  await small.locator(".masthead .headline").waitFor();
  await small.waitForTimeout(300);
  await fits(small, "the incident");
  await shot(small, "phone-incident-light");
  const height = await small.locator(".sheet").evaluate((node) => node.scrollHeight + 80);
  await small.setViewportSize({ width: 390, height });
  await small.waitForTimeout(600);
  await shot(small, "phone-incident-whole-light");
});

await step("by day it is light", async () => {
  const day = await open(wide, "light");
  await incidentIn(day).locator(".replies").click();
  await day.locator("#thread .message").first().waitFor();
  await day.waitForTimeout(400);
  await shot(day, "thread-light");
});

await done();
