// What the console's page does when the watch fails, is late or is another one; a page of its own for each
// step, whose answers the step makes up. `console.mjs` plays it in the middle of its walk.

import assert from "node:assert/strict";

/** What the store says while it cannot be reached. */
const FAILS = { status: 503, json: { error: { what: "the store does not answer", where: "the store", what_to_do: "try again in a moment" } } };
const TOLD = "The store does not answer. Try again in a moment.";

/** Answers with what `answer` gives; without one the watch answers itself. */
async function answering(view, pattern, answer) {
  await view.route(pattern, async (route) => {
    const given = await answer(route);
    return given ? route.fulfill(given) : route.fallback();
  });
}

/** Nothing new arrives: what a step has made up is not edited under its hands. */
const silent = (view) => view.route("**/api/stream?*", () => new Promise(() => {}));

/** The watch's own answer, changed. */
async function changed(route, change) {
  const response = await route.fetch();
  const json = await response.json();
  return { response, json: change(json) ?? json };
}

/** As when the page polls by itself. */
const poll = (view) => view.clock.fastForward(15_001);
const toasted = (view, text) => view.locator("#toasts .toast", { hasText: text }).last().waitFor();
const focused = (view, selector) => view.waitForFunction((wanted) => document.activeElement?.matches(wanted), selector);

/** With what the walk has at hand, and the incident that it is about. */
export async function playApart({ base, complaints, incident, incidentIn, open, step, wide }) {
  /** A page of its own for one step; what the browser itself says about an answer that fails is no complaint. */
  async function apart(name, address, prepare, body) {
    await step(name, async () => {
      const before = complaints.length;
      const view = await open(wide, "dark", address, async (fresh) => {
        await fresh.clock.install();
        await prepare(fresh);
      });
      await body(view);
      await view.unrouteAll({ behavior: "ignoreErrors" });
      await view.context().close();
      complaints.push(...complaints.splice(before).filter((line) => !line.includes("Failed to load resource")));
    });
  }

  {
    const names = [];
    let failing = "forms";
    const button = { action: "not_an_incident", label: "Not an incident…", value: "INC-0", style: "default", confirm: null };
    await apart("a press that fails is told, and its words come back under the same name", "/", async (view) => {
      await silent(view);
      await answering(view, "**/api/messages?*", (route) => changed(route, ({ messages }) => { messages.at(-1).card.blocks.push({ block: "actions", buttons: [button] }); }));
      await answering(view, "**/api/forms", () => failing === "forms" && FAILS);
      await answering(view, "**/api/act", (route) => {
        names.push(route.request().headers()["x-midwatch-act"]);
        return failing === "act" ? FAILS : { status: 202, json: { accepted: true, ts: null } };
      });
    }, async (view) => {
      const pressed = view.locator('#centre .message [data-action="not_an_incident"]').last();
      const words = view.locator("dialog textarea");
      await pressed.click();
      await toasted(view, TOLD);
      failing = "act";
      await pressed.click();
      await words.fill("it is a test");
      await words.press("Control+Enter");
      await toasted(view, `${TOLD} What you wrote is kept`);
      failing = "";
      await pressed.click();
      assert.equal(await words.inputValue(), "it is a test");
      await words.press("Control+Enter");
      await view.waitForFunction(() => !document.querySelector("dialog"));
      await view.locator('[data-action="not_an_incident"][aria-busy="true"]').waitFor();
      assert.equal(names.length, 2);
      assert.equal(names[0], names[1], "a retry counts once");
      await view.clock.fastForward(1300);
      await pressed.click();
      assert.equal(await words.inputValue(), "", "what was sent is not kept");
    });
  }

  {
    let failing = true;
    const fails = (wanted) => (route) => failing && wanted(new URL(route.request().url()).searchParams) && FAILS;
    await apart("what cannot be read is not called empty, and is read at the next try", "/", async (view) => {
      await answering(view, "**/api/messages?*", (route) => changed(route, (answer) => { answer.more = true; }));
      await answering(view, "**/api/messages?*", fails(() => true));
      await answering(view, "**/api/thread?*", fails(() => true));
    }, async (view) => {
      const channel = view.locator("#side li a", { hasText: "#" }).first();
      await view.locator("#centre .trouble", { hasText: TOLD }).waitFor();
      assert.ok(!(await view.locator("#centre .empty").isVisible()), "nobody knows whether it is empty");
      failing = false;
      await channel.click();
      await incidentIn(view).waitFor();
      assert.equal(await view.locator("#centre .trouble").count(), 0);
      failing = true;
      await view.locator("#centre .older").click();
      await toasted(view, TOLD);
      await incidentIn(view).locator(".replies").click();
      await view.locator("#thread .trouble", { hasText: TOLD }).waitFor();
      failing = false;
      await view.locator("#thread .trouble button").click();
      await view.locator("#thread .message").nth(1).waitFor();
    });
  }

  {
    let failing = true;
    await apart("what is not current says so, and nothing is called quiet that is not known", "/watch", async (view) => {
      await answering(view, "**/api/incidents", () => failing && FAILS);
    }, async (view) => {
      const standing = view.locator("#standing");
      await standing.getByText(`Not known: ${TOLD}`).waitFor();
      await view.locator("#centre .empty", { hasText: TOLD }).waitFor();
      assert.ok(!(await view.locator("body").innerText()).includes("quiet"));
      failing = false;
      await poll(view);
      await view.locator("#side .incident-link").first().waitFor();
      await view.locator(".headline").waitFor();
      await standing.getByText("Not known").waitFor({ state: "detached" });
      failing = true;
      await poll(view);
      await standing.getByText(/Not known since \d\d:\d\d: The store does not answer/).waitFor();
      await view.locator("#centre .lead", { hasText: /Not known since \d\d:\d\d/ }).waitFor();
      assert.ok(await view.locator("#side .incident-link").first().isVisible(), "what is known stays");
    });
  }

  {
    let status;
    let incidents;
    await apart("the watch's page goes with the time, and stays as it is when nothing changed", "/watch", async (view) => {
      await answering(view, "**/api/incidents", async (route) => ({ json: incidents ??= await (await route.fetch()).json() }));
      await answering(view, "**/api/status", async (route) => ({ json: status ??= await (await route.fetch()).json() }));
    }, async (view) => {
      await view.locator(".headline").waitFor();
      const sheet = view.locator("#centre .page");
      await view.setViewportSize({ width: 1400, height: 400 });
      await sheet.evaluate((node) => { node.scrollTop = 90; node.dataset.seen = "before"; });
      const [asked] = await Promise.all([view.waitForResponse("**/api/status"), poll(view)]);
      await asked.finished();
      await view.waitForTimeout(200);
      assert.equal(await sheet.getAttribute("data-seen"), "before", "the same page is left alone");
      status = { ...status, paused: "a test of the page" };
      await poll(view);
      await view.locator(".lead", { hasText: "a test of the page" }).waitFor();
      assert.equal(await sheet.evaluate((node) => node.scrollTop), 90, "and a new one stands where the old one stood");
    });
  }

  await apart("what is waited for counts down, and says when it is over", "/", async (view) => {
    await silent(view);
    const expires = { block: "fields", fields: [{ label: "Expires", value: [{ span: "date", at: new Date(Date.now() + 630_000).toISOString() }] }] };
    await answering(view, "**/api/messages?*", (route) => changed(route, ({ messages }) => { messages.at(-1).card.blocks.push(expires); }));
  }, async (view) => {
    const due = view.locator("#centre dl.fields div", { hasText: "Expires" }).last().locator("time");
    await due.filter({ hasText: /, in 10 min$/ }).waitFor();
    await view.clock.fastForward(300_000);
    await due.filter({ hasText: /, in 5 min$/ }).waitFor();
    await view.clock.fastForward(435_000);
    await due.filter({ hasText: /, 2 min ago$/ }).waitFor();
  });

  {
    const sent = [];
    let answer = FAILS;
    await apart("words keep their name, other words get another", "/", async (view) => {
      await answering(view, "**/api/act", (route) => {
        sent.push(route.request().headers()["x-midwatch-act"]);
        return answer;
      });
    }, async (view) => {
      const field = view.locator("#centre .composer textarea");
      const say = async (text) => {
        const count = sent.length;
        await field.fill(text);
        await field.press("Enter");
        await view.waitForFunction(() => !document.querySelector("#centre .composer textarea").disabled);
        assert.equal(sent.length, count + 1);
      };
      await say("first");
      await toasted(view, TOLD);
      await say("first");
      await say("second");
      assert.equal(sent[0], sent[1], "a retry counts once");
      assert.notEqual(sent[1], sent[2], "other words are another act");
      answer = { status: 409, json: { error: { what: "the name stands for other words", where: "the act", what_to_do: "send it again" } } };
      await say("second");
      await toasted(view, "The name stands for other words. Send it again.");
      await say("second");
      assert.notEqual(sent[3], sent[4], "a name that is taken is not used again");
      assert.equal(await field.inputValue(), "second", "and nothing is lost");
    });
  }

  {
    let letGo;
    let isHeld;
    const held = new Promise((resolve) => { isHeld = resolve; });
    await apart("the page shows what its address names", `/incident/${incident}`, async (view) => {
      await answering(view, "**/api/channels", (route) => changed(route, ({ channels }) => { channels.push({ name: "elsewhere", messages: 0, last_ts: null }); }));
      await answering(view, "**/api/messages?channel=ops*", async (route) => {
        const answer = await changed(route, (found) => { found.more = true; });
        if (!route.request().url().includes("before=")) return answer;
        // Older ones, as far as the page can tell.
        const newest = await (await view.request.get(`${base}/api/messages?channel=ops`)).json();
        await new Promise((resolve) => { letGo = resolve; isHeld(); });
        return { json: newest };
      });
    }, async (view) => {
      const shown = view.locator("#centre .page .over");
      await shown.waitFor();
      await view.locator("#standing").click();
      await view.locator("#centre h2", { hasText: "From noise to news" }).waitFor();
      await view.goBack();
      await shown.waitFor();
      await view.goto(`${base}/?channel=ops`);
      await view.locator("#centre .older").click();
      await held;
      await view.locator("#side li a", { hasText: "elsewhere" }).click();
      await view.locator("#centre .empty").waitFor();
      const arrived = view.waitForResponse("**/api/messages?channel=ops*before=*");
      letGo();
      await arrived;
      await view.waitForTimeout(300);
      assert.equal(await view.locator("#centre .message").count(), 0, "they belong to another channel");
    });
  }

  await apart("the later of two versions is shown, whatever process numbered them", "/", async (view) => {
    const { messages } = await (await view.request.get(`${base}/api/messages?channel=ops`)).json();
    const version = (text, edited_at, revision) => {
      const card = { fallback: text, blocks: [{ block: "text", spans: [{ span: "plain", text }] }] };
      return `event: message\ndata: ${JSON.stringify({ ...messages.at(-1), card, edited_at, revision })}\n\n`;
    };
    const body = `retry: 600000\nevent: hello\ndata: {}\n\n${version("the later words", "2999-01-01T00:00:00.5Z", 1)}${version("the earlier words", "2999-01-01T00:00:00Z", 4_000_000_000)}`;
    await answering(view, "**/api/stream?*", () => ({ contentType: "text/event-stream", body }));
  }, async (view) => {
    await view.clock.fastForward(1000);
    await view.locator("#centre .message", { hasText: /the (later|earlier) words/ }).waitFor();
    await view.waitForTimeout(300);
    assert.equal(await view.locator("#centre .message", { hasText: "the later words" }).count(), 1);
  });

  {
    let title = null;
    await apart("the focus stays where it is while the lists and the page are drawn anew", `/incident/${incident}`, async (view) => {
      const retitled = (row) => (title ? { ...row, title } : row);
      await answering(view, "**/api/incidents", (route) => changed(route, (rows) => rows.map(retitled)));
      await answering(view, "**/api/incidents/*", (route) => changed(route, (page) => ({ ...page, row: retitled(page.row) })));
    }, async (view) => {
      const link = `#side .incident-link[href="/incident/${incident}"]`;
      await view.locator(".headline").waitFor();
      await view.locator(link).focus();
      title = "once renamed";
      await poll(view);
      await view.locator(`${link} .name`, { hasText: title }).waitFor();
      await view.locator(".headline", { hasText: title }).waitFor();
      await focused(view, link);
      await view.locator("#centre .jump button", { hasText: "Timeline" }).focus();
      title = "twice renamed";
      await poll(view);
      await view.locator(".headline", { hasText: title }).waitFor();
      await focused(view, "#centre .jump button");
      assert.equal(await view.evaluate(() => document.activeElement.textContent), "Timeline");
    });
  }

  {
    /** What the next answers say of the process that gives them. */
    const told = [];
    await apart("a page out of sight gives its connection back, and asks for the rest when it is seen again", "/", async (view) => {
      await answering(view, "**/api/channels", (route) => changed(route, (answer) => ({ ...answer, ...told.shift() })));
      await view.addInitScript(() => {
        window.streams = [];
        window.EventSource = class extends EventSource {
          constructor(address) {
            super(address);
            window.streams.push(this);
          }
        };
        let hidden = false;
        Object.defineProperty(document, "hidden", { get: () => hidden });
        window.hide = (now) => {
          hidden = now;
          document.dispatchEvent(new Event("visibilitychange"));
        };
      });
    }, async (view) => {
      const opened = (count) => view.waitForFunction((wanted) => window.streams.length === wanted && window.streams.at(-1).readyState === EventSource.OPEN, count);
      const last = () => view.evaluate(() => [window.streams.at(-1).readyState, window.streams.at(-1).url]);
      await opened(1);
      assert.match((await last())[1], /after=\d+&of=[0-9a-f]+$/);
      await view.evaluate(() => window.hide(true));
      await view.clock.fastForward(20_000);
      assert.equal((await last())[0], 1, "it goes on counting for a while");
      await view.clock.fastForward(11_000);
      assert.equal((await last())[0], 2, "then it hangs up");
      await view.evaluate(() => window.hide(false));
      await opened(2);
      assert.match((await last())[1], /after=\d+&of=[0-9a-f]+$/);
      // A server that does not say which one it is.
      told.push({ instance: undefined });
      await view.reload();
      await opened(1);
      assert.match((await last())[1], /after=\d+$/);
      // What was read of another process is read again: its numbers are not ours.
      told.push({ instance: "another" });
      await view.reload();
      await view.waitForFunction(() => window.streams.length === 1 && /&of=[0-9a-f]{16}$/.test(window.streams[0].url));
    });
  }
}
