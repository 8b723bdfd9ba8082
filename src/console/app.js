// The console: channels, conversations and the acts of the person at the desk.
// State lives in maps by ts; the live stream and the first fetch write into them the same way.

import { ask } from "./acts.js";
import { actionButton, messageNode } from "./cards.js";
import { composer } from "./composer.js";
import { api, clock, h, isOurs, keepingFocus, refreshTimes, Refused, time, toast } from "./dom.js";
import { openEvidence, showIncident, showWatch } from "./page.js";

const side = document.getElementById("side-lists");
const centre = document.getElementById("centre");
const threadPane = document.getElementById("thread");

const state = {
  person: "you",
  channels: [],
  channel: null,
  view: "chat",
  thread: null,
  messages: new Map(),
  replies: new Map(),
  more: false,
  /** Whether the channel that is shown has been read: nothing is said to be empty before. */
  loaded: false,
  incidents: [],
  status: null,
  /** When incidents and status were last read, and why they could not be read since. */
  knownAt: null,
  unknown: null,
  unread: new Map(),
  revision: 0,
  votes: new Map(),
  /** Of the process that counts the revisions, once it has said its name. */
  instance: undefined,
  begun: false,
};

// ---------------------------------------------------------------- acts

async function press(message, button, node) {
  if (node.getAttribute("aria-busy") === "true") return;
  node.setAttribute("aria-busy", "true");
  let sent = false;
  try {
    sent = await ask(message, button);
    if (sent && button.action.startsWith("thumbs_")) {
      state.votes.set(`${message.ts} ${button.value}`, button.action);
      redraw(message.ts);
    }
  } catch (error) {
    explain(error);
  } finally {
    setTimeout(() => node.removeAttribute("aria-busy"), sent ? 1200 : 0);
  }
}

/** Buttons of the incident's page; they count as pressed on its card in the channel. */
function actsOn(row) {
  if (row.closed_at || !row.channel || !row.ts) return null;
  const place = { channel: row.channel, ts: row.ts };
  const buttons = [["merge", "Merge…"], ["split", "Split…"], ["not_an_incident", "Not an incident…"]];
  return h("div", { class: "row actions" }, buttons.map(([action, label]) => actionButton(place, { action, label, value: row.id, style: "default" }, desk)));
}

const desk = {
  vote: (message, button) => state.votes.get(`${message.ts} ${button.value}`),
  press,
  openThread,
  explain,
};

function explain(error) {
  if (!(error instanceof Refused)) throw error;
  toast(error.message);
}

/** Puts the messages where they belong; those that did not change keep their nodes, focus and scroll. */
function fill(list, messages, place) {
  const isOwn = messages.at(-1)?.author.kind === "person" && !list.querySelector(`:scope > [data-ts="${messages.at(-1).ts}"]`);
  const stuck = isOwn || isAtEnd(list);
  const known = new Map([...list.querySelectorAll(":scope > .message")].map((node) => [node.dataset.ts, node]));
  let last = [...list.querySelectorAll(":scope > .before-all")].at(-1) ?? null;
  for (const message of messages) {
    const stamp = `${message.revision} ${message.edited_at ?? ""} ${message.replies} ${state.votes.get(voteKey(message)) ?? ""}`;
    let node = known.get(message.ts);
    if (!node || node.dataset.stamp !== stamp) {
      const fresh = messageNode(message, place, desk);
      fresh.dataset.stamp = stamp;
      if (node) replaceKeepingFocus(node, fresh);
      node = fresh;
    }
    const wanted = last ? last.nextSibling : list.firstChild;
    if (node !== wanted) list.insertBefore(node, wanted);
    known.delete(message.ts);
    last = node;
  }
  for (const node of known.values()) node.remove();
  if (stuck) list.scrollTop = list.scrollHeight;
}

const isAtEnd = (list) => list.scrollHeight - list.scrollTop - list.clientHeight < 80;

/** A log that stays at its end while pictures arrive, unless the reader has scrolled away. */
function log(label, ...first) {
  let atEnd = false;
  const list = h("div", { class: "log", role: "log", "aria-label": label, tabindex: "0" }, ...first);
  list.addEventListener("scroll", () => { atEnd = isAtEnd(list); });
  list.addEventListener("load", () => { if (atEnd) list.scrollTop = list.scrollHeight; }, true);
  return list;
}

function voteKey(message) {
  const votes = message.card.blocks.flatMap((part) => part.buttons ?? []).find((button) => button.action.startsWith("thumbs_"));
  return votes ? `${message.ts} ${votes.value}` : "";
}

function replaceKeepingFocus(old, fresh) {
  const all = (node) => [...node.querySelectorAll("button, a, pre")];
  const place = all(old).indexOf(document.activeElement);
  const hadFocus = old.contains(document.activeElement);
  const label = document.activeElement?.textContent;
  old.replaceWith(fresh);
  if (!hadFocus) return;
  const candidates = all(fresh);
  (candidates.find((node) => node.textContent === label) ?? candidates[Math.min(place, candidates.length - 1)])?.focus();
}

const byTs = (messages) => [...messages.values()].sort((a, b) => (a.ts < b.ts ? -1 : 1));

function redraw(ts) {
  if (state.view === "chat" && (!ts || state.messages.has(ts))) drawMessages();
  if (state.thread) drawReplies();
}

function drawMessages() {
  const list = centre.querySelector(".log");
  if (!list) return;
  const empty = list.querySelector(".empty");
  if (empty) empty.hidden = !state.loaded || state.messages.size > 0;
  const more = list.querySelector(".older");
  if (more) more.hidden = !state.more;
  fill(list, byTs(state.messages), "channel");
}

function drawReplies() {
  const list = threadPane.dataset.thread === state.thread && threadPane.querySelector(".log");
  const root = state.thread && (state.messages.get(state.thread) ?? state.replies.get(state.thread));
  if (list && root) fill(list, [root, ...byTs(state.replies).filter((reply) => reply.ts !== root.ts)], "thread");
}

// ---------------------------------------------------------------- views

let sideDrawn = null;

/** Left as it is when nothing changed; the times in it go on by themselves. */
function drawSide() {
  const here = location.pathname;
  const { channel, view, title, channels: names, incidents: rows, status, unknown } = state;
  const stamp = JSON.stringify([here, channel, view, title, names, rows, status, Boolean(state.knownAt), unknown, [...state.unread]]);
  if (stamp === sideDrawn) return;
  sideDrawn = stamp;
  const channels = state.channels.map(({ name }) => {
    const unread = state.unread.get(name) ?? 0;
    return h("li", {}, h("a", { href: `/?channel=${encodeURIComponent(name)}`, "aria-current": state.view === "chat" && name === state.channel ? "page" : null, class: unread ? "unread" : "" },
      h("span", { class: "hash", "aria-hidden": "true" }, "#"), h("span", { class: "grow" }, name), unread > 0 && h("b", { "aria-label": `${unread} new` }, String(unread))));
  });
  const incident = (row) => h("li", {}, h("a", { href: `/incident/${encodeURIComponent(row.id)}`, "aria-current": here === `/incident/${row.id}` ? "page" : null, class: "incident-link" },
    h("span", { class: "line" }, h("span", { class: `sev ${row.severity.toLowerCase()}` }, row.severity), h("span", { class: "id" }, row.id), h("span", { class: "grow" }), time(row.opened_at, "away")),
    h("span", { class: "name" }, row.title), h("span", { class: `state${row.needs_you ? " needs-you" : ""}` }, row.state)));
  const open = state.incidents.filter((row) => !row.closed_at);
  const done = state.incidents.filter((row) => row.closed_at).slice(0, 5);
  document.body.classList.toggle("not-known", Boolean(unknown));
  const quiet = unknown ? "Not known." : state.knownAt ? "All quiet." : "…";
  keepingFocus(side, () => side.replaceChildren(
    h("h2", {}, "Channels"), h("ul", {}, channels),
    h("h2", {}, "Open incidents"), open.length ? h("ul", {}, open.map(incident)) : h("p", { class: "calm" }, quiet),
    ...(done.length ? [h("h2", {}, "Lately"), h("ul", { class: "done" }, done.map(incident))] : [])));
  const standing = document.getElementById("standing");
  standing.replaceChildren(...(unknown ? [
    h("span", { class: "lamp unknown", "aria-hidden": "true" }), h("span", {}, notKnown()),
  ] : status ? [
    h("span", { class: `lamp ${status.paused ? "paused" : "on"}`, "aria-hidden": "true" }),
    h("span", {}, status.paused ? `Paused: ${status.paused}` : "On watch"), h("small", {}, `${status.model || "no model"} · v${status.version}`),
  ] : ["…"]));
  standing.setAttribute("aria-current", state.view === "watch" ? "page" : "false");
  const unread = [...state.unread.values()].reduce((sum, count) => sum + count, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${state.title ?? `#${state.channel}`} · midwatch`;
}

/** What is shown is the last that was known, and says so. */
function notKnown() {
  if (!state.unknown) return null;
  return state.knownAt ? `Not known since ${clock(state.knownAt)}: ${state.unknown}` : `Not known: ${state.unknown}`;
}

function topBar(title, ...rest) {
  const menu = h("button", { type: "button", class: "icon menu", "aria-label": "Channels and incidents", "aria-expanded": "false", onclick: () => toggleMenu() }, "☰");
  return h("header", { class: "bar" }, menu, h("h1", {}, title), ...rest);
}

function toggleMenu(open = !document.body.classList.contains("menu-open")) {
  document.body.classList.toggle("menu-open", open);
  centre.querySelector(".menu")?.setAttribute("aria-expanded", String(open));
  if (open) side.querySelector("a")?.focus();
}

async function showChannel(name) {
  state.view = "chat";
  state.title = null;
  if (state.channel !== name || !centre.querySelector(".log")) {
    state.channel = name;
    state.messages.clear();
    Object.assign(state, { loaded: false, more: false });
    const older = h("button", { type: "button", class: "older before-all", hidden: true, onclick: () => loadOlder() }, "Older messages");
    const empty = h("div", { class: "empty before-all", hidden: true }, h("p", {}, "Nothing here yet."), h("p", {}, "Ask the watch something, or type ", h("code", {}, "/ops help"), "."));
    centre.replaceChildren(topBar(`#${name}`), log(`Messages in #${name}`, older, empty), composer("channel", null, { ...desk, channel: name }));
  }
  if (!state.loaded) {
    await loadMessages();
    if (state.channel !== name) return;
    const list = centre.querySelector(".log");
    if (list) list.scrollTop = list.scrollHeight;
  }
  if (state.loaded) state.unread.delete(name);
  drawSide();
}

/**
 * The newest of each stays: the stream may overtake what is being fetched. Times and counts are the
 * same wherever a message is read; its revision is a number of the process that answers.
 */
function keep(known, messages) {
  const changedAt = (message) => Date.parse(message.edited_at ?? message.at);
  for (const message of messages) {
    const before = known.get(message.ts);
    const newer = before ? changedAt(message) - changedAt(before) || message.replies - before.replies : 0;
    if (newer >= 0) known.set(message.ts, message);
  }
}

/** In place of what could not be read: why, and another try. */
function trouble(error, again) {
  if (!(error instanceof Refused)) throw error;
  return h("div", { class: "trouble before-all", role: "alert" }, h("p", {}, error.message), h("button", { type: "button", onclick: again }, "Try again"));
}

async function loadMessages() {
  const { channel } = state;
  const list = centre.querySelector(".log");
  const isWanted = () => state.channel === channel && list.isConnected;
  const tell = (fresh) => {
    const before = list.querySelector(".trouble");
    const hadFocus = before?.contains(document.activeElement);
    before?.remove();
    if (fresh) list.querySelector(".empty").after(fresh);
    if (hadFocus) (fresh?.querySelector("button") ?? list).focus();
  };
  try {
    const { messages, more, revision } = await api(`/api/messages?channel=${encodeURIComponent(channel)}`);
    if (!isWanted()) return;
    keep(state.messages, messages);
    state.more = more;
    state.loaded = true;
    state.revision = Math.max(state.revision, revision);
    tell(null);
    drawMessages();
  } catch (error) {
    if (!isWanted()) return;
    tell(trouble(error, () => route()));
  }
}

async function loadOlder() {
  const { channel } = state;
  const [oldest] = byTs(state.messages);
  const list = centre.querySelector(".log");
  try {
    const { messages, more } = await api(`/api/messages?channel=${encodeURIComponent(channel)}&before=${oldest.ts}`);
    if (state.channel !== channel || !list.isConnected) return;
    const fromEnd = list.scrollHeight - list.scrollTop;
    keep(state.messages, messages);
    state.more = more;
    drawMessages();
    list.scrollTop = list.scrollHeight - fromEnd;
  } catch (error) {
    explain(error);
  }
}

function openThread(ts) {
  return navigate(`/?channel=${encodeURIComponent(state.channel)}&thread=${ts}`);
}

async function showThread(ts) {
  if (state.thread === ts && threadPane.dataset.thread === ts) return;
  const from = document.activeElement;
  state.thread = ts;
  state.replies.clear();
  const close = h("button", { type: "button", class: "icon", "aria-label": "Close the thread", onclick: closeThread }, "✕");
  const put = (link, ...rest) => {
    threadPane.replaceChildren(h("header", { class: "bar" }, h("h2", {}, "Thread"), link, close), ...rest);
    threadPane.hidden = false;
    document.body.classList.add("thread-open");
  };
  try {
    const { root, replies } = await api(`/api/thread?channel=${encodeURIComponent(state.channel)}&ts=${ts}`);
    if (state.thread !== ts) return;
    keep(state.replies, [root, ...replies]);
    const list = log("Thread");
    const link = root.card.blocks.flatMap((part) => part.spans ?? []).find((span) => span.span === "link" && isOurs(span.path));
    put(link ? h("a", { href: link.path, class: "more" }, `${link.text} in full`) : "", list, composer("thread", ts, { ...desk, channel: state.channel }));
    threadPane.dataset.thread = ts;
    drawReplies();
    list.scrollTop = 0;
  } catch (error) {
    if (state.thread !== ts) return;
    delete threadPane.dataset.thread;
    put("", trouble(error, () => route()));
  }
  if (from !== document.body) close.focus();
}

function closeThread() {
  const ts = state.thread;
  hideThread();
  navigate(`/?channel=${encodeURIComponent(state.channel)}`);
  centre.querySelector(`[data-ts="${ts}"] .replies`)?.focus();
}

function hideThread() {
  state.thread = null;
  delete threadPane.dataset.thread;
  threadPane.hidden = true;
  threadPane.replaceChildren();
  document.body.classList.remove("thread-open");
}

/** Whether it was drawn: the reader may have gone on while it was fetched. */
function drawIncident(id) {
  return showIncident(centre, id, topBar, actsOn, () => state.view === "incident" && state.title === id);
}

function drawWatch() {
  if (state.view !== "watch") return;
  if (state.status) showWatch(centre, topBar, state.status, state.incidents, notKnown());
  else if (state.unknown) throw new Refused(state.unknown);
}

let routes = 0;

async function route() {
  const mine = ++routes;
  toggleMenu(false);
  const { pathname, searchParams } = new URL(location.href);
  const [, room, id] = pathname.split("/");
  try {
    if (room === "incident" || room === "evidence") {
      const key = decodeURIComponent(id ?? "");
      const incident = room === "evidence" ? key.replace(/\.[^.]*$/, "") : key;
      hideThread();
      state.view = "incident";
      state.title = incident;
      if (!(await drawIncident(incident))) return;
      if (room === "evidence") openEvidence(key);
    } else if (room === "watch") {
      hideThread();
      state.view = "watch";
      state.title = "The watch";
      if (!state.status) await refreshLists();
      drawWatch();
    } else {
      const wanted = searchParams.get("channel") ?? state.channel ?? state.channels[0]?.name ?? "ops";
      if (state.view !== "chat") centre.replaceChildren();
      await showChannel(wanted);
      if (state.view !== "chat" || state.channel !== wanted) return;
      const thread = searchParams.get("thread");
      if (thread) await showThread(thread);
      else hideThread();
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (mine !== routes) return;
    centre.replaceChildren(topBar(error.status === 404 ? "Not here" : state.title), h("div", { class: "empty" }, h("p", {}, error.message), h("p", {}, h("a", { href: "/" }, "Back to the conversation"))));
  }
  drawSide();
}

function navigate(path) {
  if (path !== location.pathname + location.search) history.pushState({}, "", path);
  return route();
}

// ---------------------------------------------------------------- live

function take(message) {
  const isNew = message.revision > state.revision;
  state.revision = Math.max(state.revision, message.revision);
  if (message.channel === state.channel) {
    if (!message.thread) keep(state.messages, [message]);
    const inThread = message.ts === state.thread || message.thread === state.thread;
    if (state.thread && inThread) keep(state.replies, [message]);
  }
  const seen = message.channel === state.channel && state.view === "chat" && !document.hidden;
  if (isNew && !seen && !message.edited_at && message.author.kind === "watch") {
    state.unread.set(message.channel, (state.unread.get(message.channel) ?? 0) + 1);
  }
  if (!state.channels.some((channel) => channel.name === message.channel)) state.channels.push({ name: message.channel });
  soon();
}

let waiting = null;
/** Many messages at once are drawn once. */
function soon() {
  waiting ??= setTimeout(async () => {
    waiting = null;
    redraw();
    await refreshLists();
  }, 60);
}

let lists = null;
/** At most one of these is under way: it feeds the left side, and the page of an incident or of the watch when it is open. */
function refreshLists() {
  lists ??= readLists().finally(() => { lists = null; });
  return lists;
}

async function readLists() {
  try {
    const [incidents, status] = await Promise.all([api("/api/incidents"), api("/api/status")]);
    Object.assign(state, { incidents, status });
    drawSide();
    if (state.view === "incident" && !document.querySelector("dialog[open]")) await drawKnownIncident(state.title);
    Object.assign(state, { knownAt: new Date().toISOString(), unknown: null });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    state.unknown = error.message;
  }
  drawSide();
  if (state.status) drawWatch();
}

/** One that is not there says nothing about the others. */
async function drawKnownIncident(id) {
  try {
    await drawIncident(id);
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

let stream = null;
let rest = null;
let lost = null;

function tellLost(isLost) {
  if (isLost === Boolean(lost)) return;
  lost?.remove();
  lost = isLost ? h("div", { class: "toast bad" }, "The watch does not answer; trying again…") : null;
  if (lost) document.getElementById("toasts").append(lost);
}

function follow() {
  const of = state.instance === undefined ? "" : `&of=${encodeURIComponent(state.instance)}`;
  const mine = new EventSource(`/api/stream?after=${state.revision}${of}`);
  stream = mine;
  mine.addEventListener("hello", (event) => {
    state.instance ??= JSON.parse(event.data).instance;
    tellLost(false);
  });
  mine.addEventListener("message", (event) => take(JSON.parse(event.data)));
  mine.addEventListener("reset", () => location.reload());
  mine.addEventListener("error", () => {
    if (mine !== stream) return;
    tellLost(true);
    if (mine.readyState !== EventSource.CLOSED) return;
    stream = null;
    setTimeout(attend, 3000);
  });
}

/**
 * Follows while the page is looked at. A browser opens six connections to a host and a stream keeps
 * one: six tabs that all listened would leave none for an act. So a page that is out of sight hangs
 * up after half a minute, and from then on its title no longer counts what is new; when it is shown
 * again it asks for everything after what it saw. One that was never shown has nothing to count from.
 */
function attend() {
  clearTimeout(rest);
  if (!document.hidden) {
    if (!stream) follow();
  } else if (stream) rest = setTimeout(hangUp, 30_000);
}

function hangUp() {
  stream?.close();
  stream = null;
  tellLost(false);
}

// ---------------------------------------------------------------- the watch on board: bells

const WATCHES = ["Middle watch", "Morning watch", "Forenoon watch", "Afternoon watch", "Dog watch", "First watch"];

function ring() {
  const now = new Date();
  const halfHours = Math.floor((now.getHours() * 60 + now.getMinutes()) / 30);
  const bells = halfHours % 8 || 8;
  document.getElementById("bells").textContent = `${WATCHES[Math.floor(now.getHours() / 4)]}, ${bells} ${bells === 1 ? "bell" : "bells"}`;
  refreshTimes();
}

document.addEventListener("click", (event) => {
  const chip = event.target.closest?.("[data-evidence]");
  if (chip) return openEvidence(chip.dataset.evidence);
  const link = event.target.closest?.("a[href]");
  if (link && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && /^\/($|\?|incident\/|evidence\/|watch)/.test(link.getAttribute("href")) && !link.getAttribute("href").endsWith(".svg")) {
    event.preventDefault();
    return navigate(link.getAttribute("href"));
  }
  if (document.body.classList.contains("menu-open") && !event.target.closest?.("#side, .menu")) toggleMenu(false);
});

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("textarea, input, select");
  if (event.key === "Escape") {
    if (document.body.classList.contains("menu-open")) toggleMenu(false);
    else if (state.thread) closeThread();
  } else if (event.key === "/" && !typing && !event.metaKey && !event.ctrlKey) {
    const field = (threadPane.hidden ? centre : threadPane).querySelector(".composer textarea");
    if (!field) return;
    event.preventDefault();
    field.value = "/";
    field.focus();
    field.dispatchEvent(new Event("input"));
  } else if ((event.key === "j" || event.key === "k") && !typing) {
    const roots = [...centre.querySelectorAll(".replies")];
    const at = roots.indexOf(document.activeElement);
    roots[event.key === "j" ? Math.min(at + 1, roots.length - 1) : Math.max(at - 1, 0)]?.focus();
  }
});

document.addEventListener("visibilitychange", () => {
  if (state.begun) {
    attend();
    if (!document.hidden) refreshLists();
  }
  if (document.hidden || state.view !== "chat") return;
  state.unread.delete(state.channel);
  drawSide();
});
window.addEventListener("popstate", () => route());

async function begin() {
  try {
    const { person, channels, revision, instance } = await api("/api/channels");
    Object.assign(state, { person: person.name, channels, revision, instance });
    await refreshLists();
    await route();
    state.begun = true;
    attend();
  } catch (error) {
    explain(error);
    setTimeout(begin, 3000);
  }
}

ring();
setInterval(ring, 20_000);
setInterval(refreshLists, 15_000);
begin();
