// Building blocks of the page. Text from outside enters through textContent only.

/** h("p", {class: "x", onclick}, "text", child, [more]) */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Asks the server; an error says what and what to do. Silence is an error too: what is shown would go on looking new. */
export async function api(path, options) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(30_000), ...options });
  } catch {
    throw new Refused("The watch does not answer. Is midwatch still running?");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const { what, what_to_do } = body?.error ?? {};
  if (response.ok) throw new Refused("The answer of the watch broke off.");
  throw new Refused(what ? `${sentence(what)} ${sentence(what_to_do)}` : `The watch answered ${response.status}.`, response.status);
}

export const sentence = (text) => {
  const trimmed = String(text ?? "").trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
};

export const newName = () =>
  crypto.randomUUID?.() ??
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function toast(text, tone = "bad") {
  const note = h("div", { class: `toast ${tone}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 7000);
}

const two = (number) => String(number).padStart(2, "0");

export function clock(at) {
  const when = new Date(at);
  const time = `${two(when.getHours())}:${two(when.getMinutes())}`;
  if (when.toDateString() === new Date().toDateString()) return time;
  return `${when.getDate()} ${when.toLocaleString("en", { month: "short" })} ${time}`;
}

export function away(at) {
  const ms = new Date(at) - Date.now();
  const minutes = Math.round(Math.abs(ms) / 60000);
  const words = minutes < 1 ? "a moment" : minutes < 60 ? `${minutes} min` : minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} d`;
  return ms > 0 ? `in ${words}` : `${words} ago`;
}

/** As `clock`, or as `away`; a clock's time that is ahead is `due`: it tells the distance too, and goes on telling it. */
export function time(at, form = "clock") {
  const shown = form === "clock" && new Date(at) > Date.now() ? "due" : form;
  return h("time", { datetime: at, title: new Date(at).toString(), "data-form": shown }, timeWords(at, shown));
}

function timeWords(at, form) {
  if (form === "away") return away(at);
  return form === "due" ? `${clock(at)}, ${away(at)}` : clock(at);
}

/** Times go on ticking: how long is left, that it is over, and that it was yesterday. */
export function refreshTimes() {
  for (const node of document.querySelectorAll("time[data-form]")) {
    const words = timeWords(node.dateTime, node.dataset.form);
    if (node.textContent !== words) node.textContent = words;
  }
}

const NAMES = ["id", "href", "data-action", "data-evidence", "data-incident"];

/** What stays the same about a node that is drawn anew; one without a name goes by its words and where it stands. */
function sameness(node) {
  const names = NAMES.map((name) => node.getAttribute(name));
  const words = node.matches("button, summary") ? node.textContent : "";
  return JSON.stringify([node.tagName, ...(names.some((name) => name !== null) ? names : [node.closest("[id]")?.id, words])]);
}

/** Draws anew what stands in `root`; the focus stays on what it was on, though the node is another. */
export function keepingFocus(root, draw) {
  const active = document.activeElement;
  if (!active || active === root || !root.contains(active)) return draw();
  const wanted = sameness(active);
  const same = () => [...root.querySelectorAll("a, button, summary, [tabindex]")].filter((node) => sameness(node) === wanted);
  const place = same().indexOf(active);
  draw();
  if (!active.isConnected) same().at(Math.min(place, same().length - 1))?.focus({ preventScroll: true });
}

/** Only addresses on this host are links; anything else is shown as words. */
export const isOurs = (path) => typeof path === "string" && /^\/(?![/\\])/.test(path);

export function evidenceChip(id) {
  const mark = String(id).split(".").pop();
  return h("button", { type: "button", class: "chip", "data-evidence": id, "aria-label": `Evidence ${mark}`, "aria-haspopup": "dialog" }, mark);
}

export function spans(list) {
  return (list ?? []).map((span) => {
    switch (span.span) {
      case "plain": return document.createTextNode(span.text);
      case "bold": return h("strong", {}, span.text);
      case "code": return h("code", {}, span.text);
      case "quoted": return h("span", { class: "quoted", title: "Somebody else's words" }, span.text);
      case "evidence": return evidenceChip(span.id);
      case "link": return isOurs(span.path) ? h("a", { href: span.path }, span.text) : document.createTextNode(span.text);
      case "date": return time(span.at);
      case "person": return h("span", { class: "person" }, `@${String(span.id).split("/").pop()}`);
      default: return document.createTextNode("");
    }
  });
}

/** Preformatted text; added and removed lines of a diff are tinted. */
export function code(text, form = "") {
  const lines = String(text).replace(/\n$/, "").split("\n");
  const isDiff = lines.some((line) => /^[+-]/.test(line)) && lines.some((line) => /^(\+|-|@@| )/.test(line));
  return h("pre", { tabindex: "0", class: form }, lines.map((line) => {
    const tone = !isDiff ? "" : /^(\+\+\+|---|@@)/.test(line) ? "hunk" : line[0] === "+" ? "added" : line[0] === "-" ? "removed" : "";
    return h("span", { class: `line ${tone}` }, `${line}\n`);
  }));
}

export function picture(path, alt, title) {
  const source = isOurs(path) ? path : `/picture/${path}`;
  const image = h("img", { src: source, alt, loading: "lazy" });
  const open = () => dialog({ title: title ?? alt, wide: true }, (close) => [h("img", { class: "whole", src: source, alt }), h("div", { class: "row end" }, h("button", { type: "button", onclick: close }, "Close"))]);
  image.addEventListener("error", () => image.replaceWith(h("p", { class: "missing" }, `Picture not available: ${alt}`)));
  return h("figure", {}, h("button", { type: "button", class: "plain", "aria-label": `Enlarge: ${alt}`, onclick: open }, image));
}

/** A modal: Esc closes, focus returns to where it was. Resolves with what `close` was given. */
export function dialog({ title, wide, side, label }, build) {
  return new Promise((resolve) => {
    let result;
    const before = document.activeElement;
    const box = h("dialog", { class: side ? "drawer" : wide ? "wide" : "", "aria-label": label ?? title });
    const close = (value) => {
      result = value instanceof Event ? undefined : value;
      box.close();
    };
    box.append(h("div", { class: "dialog-head" }, h("h2", {}, title), h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => close() }, "✕")));
    box.append(h("div", { class: "dialog-body" }, build(close, box)));
    box.addEventListener("click", (event) => event.target === box && close());
    box.addEventListener("close", () => {
      box.remove();
      if (before?.isConnected) before.focus();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
    (box.querySelector("[autofocus]") ?? box.querySelector(".dialog-body button, .dialog-head button"))?.focus();
  });
}

/** Enough Markdown for a post-mortem: headings, lists, tables, fences, bold and code. */
export function markdown(text, incident) {
  const inline = (words) => phrase(words, incident);
  const out = [];
  const lines = String(text).split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const take = (pattern) => {
      const taken = [];
      while (at < lines.length && pattern.test(lines[at])) taken.push(lines[at++]);
      return taken;
    };
    const heading = /^(#{1,4})\s+(.*)/.exec(line);
    if (!line.trim()) at += 1;
    else if (heading) {
      out.push(h(`h${Math.min(heading[1].length + 2, 6)}`, {}, inline(heading[2])));
      at += 1;
    } else if (/^```/.test(line)) {
      at += 1;
      const body = take(/^(?!```)/);
      at += 1;
      out.push(code(body.join("\n")));
    } else if (/^\s*[-*]\s/.test(line)) out.push(h("ul", {}, take(/^\s*[-*]\s/).map((item) => h("li", {}, inline(item.replace(/^\s*[-*]\s+/, ""))))));
    else if (/^\s*\d+\.\s/.test(line)) out.push(h("ol", {}, take(/^\s*\d+\.\s/).map((item) => h("li", {}, inline(item.replace(/^\s*\d+\.\s+/, ""))))));
    else if (/^\|/.test(line)) {
      const [head, ...rows] = take(/^\|/).filter((row) => !/^\|[\s:|-]+\|?\s*$/.test(row)).map((row) => row.replace(/^\||\|\s*$/g, "").split("|"));
      out.push(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head.map((cell) => h("th", {}, inline(cell.trim()))))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell.trim())))))))));
    } else {
      const taken = [lines[at++]];
      while (at < lines.length && lines[at].trim() && !/^(#{1,4}\s|```|\||\s*[-*]\s|\s*\d+\.\s)/.test(lines[at])) taken.push(lines[at++]);
      out.push(h("p", {}, inline(taken.join(" "))));
    }
  }
  return out;
}

function phrase(text, incident) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`|\[E\d+\])/).map((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (incident && /^\[E\d+\]$/.test(part)) return evidenceChip(`${incident}.${part.slice(1, -1)}`);
    return document.createTextNode(part);
  });
}
