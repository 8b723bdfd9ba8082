// Where people type: a question, or a command with the hints of its grammar.

import { act } from "./acts.js";
import { api, h, newName } from "./dom.js";

/** `desk`: the channel, how a thread is opened and how a refusal is told. */
export function composer(place, thread, desk) {
  const hints = h("ul", { class: "hints", id: `hints-${place}`, role: "listbox", "aria-label": "Commands", hidden: true });
  const field = h("textarea", {
    rows: "1", maxlength: "4000", role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list", "aria-controls": `hints-${place}`,
    "aria-label": thread ? "Write in this thread" : `Write in #${desk.channel}`,
    placeholder: thread ? "Ask about this incident, or /ops …" : "Ask the watch, or /ops …",
  });
  let offered = [];
  let chosen = 0;
  let asked = 0;

  // What may come next is the watch's to say: one grammar for every place where commands are typed.
  const offer = async () => {
    const typed = /^\/(?:o|op|ops)?(?:\s+([\s\S]*))?$/.exec(field.value);
    const mine = ++asked;
    let found = [];
    if (typed) {
      try {
        found = await api(`/api/hints?text=${encodeURIComponent(typed[1] ?? "")}`);
      } catch {
        found = [];
      }
    }
    if (mine !== asked) return;
    offered = found;
    draw();
  };
  const draw = () => {
    chosen = Math.min(chosen, Math.max(offered.length - 1, 0));
    hints.replaceChildren(...offered.map(({ text, about }, at) => h("li", {
      role: "option", id: `hint-${place}-${at}`, "aria-selected": String(at === chosen), onmousedown: (event) => { event.preventDefault(); complete(at); },
    }, h("code", {}, `/ops ${text.trim()}`), h("span", { class: "what" }, about))));
    hints.hidden = offered.length === 0;
    field.setAttribute("aria-expanded", String(offered.length > 0));
    if (offered.length) field.setAttribute("aria-activedescendant", `hint-${place}-${chosen}`);
    else field.removeAttribute("aria-activedescendant");
    hints.children[chosen]?.scrollIntoView({ block: "nearest" });
    field.style.setProperty("height", "auto");
    field.style.setProperty("height", `${Math.min(field.scrollHeight + 2, 180)}px`);
  };
  const complete = (at) => {
    const { text } = offered[at];
    field.value = `/ops ${text}`;
    offered = [];
    chosen = 0;
    draw();
    // Nothing follows a command that ends with itself.
    if (/[\s=]$/.test(text)) offer();
    field.focus();
  };
  // Enter sends what is typed; it completes only while the command's own name is not whole.
  const whole = () => /^\/ops\s+\S+\s/.test(field.value) || (offered.length > 0 && field.value.trim() === `/ops ${offered[chosen].text}`.trim());
  // The name belongs to the words: kept by a retry of the same, so that they count once.
  let tried = null;
  const send = async () => {
    const text = field.value.trim();
    if (!text) return;
    const command = /^\/(?:ops\b\s*)?([\s\S]*)$/.exec(text);
    const body = command ? { kind: "command", text: command[1].trim() || "help" } : { kind: "mention", text };
    let answers = null;
    if (tried?.text !== text) tried = { text, name: newName() };
    field.disabled = true;
    try {
      const { ts } = await act({ ...body, channel: desk.channel, ...(thread && { thread }) }, tried.name);
      field.value = "";
      tried = null;
      // The answer to a question comes as a reply to it.
      if (body.kind === "mention" && !thread && ts) answers = ts;
    } catch (error) {
      // A conflict means that the name is taken by other words.
      if (error.status === 409) tried = null;
      desk.explain(error);
    } finally {
      field.disabled = false;
      field.focus();
      offer();
    }
    if (!answers) return;
    await desk.openThread(answers);
    document.querySelector("#thread .composer textarea")?.focus();
  };
  field.addEventListener("input", offer);
  field.addEventListener("blur", () => { hints.hidden = true; });
  field.addEventListener("keydown", (event) => {
    const open = !hints.hidden;
    if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : -1) + offered.length) % offered.length;
      draw();
    } else if (open && (event.key === "Tab" || (event.key === "Enter" && !whole()))) complete(chosen);
    else if (open && event.key === "Escape") {
      hints.hidden = true;
      event.stopPropagation();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
    else return;
    event.preventDefault();
  });
  return h("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); send(); } }, hints, field,
    h("button", { type: "submit", class: "send", "aria-label": "Send" }, "Send"));
}
