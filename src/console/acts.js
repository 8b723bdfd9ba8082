// What a button asks before it is pressed, and the way of every act to the watch.
// Words that could not be sent are kept here, so that nobody types a reason twice.

import { api, dialog, h, newName, Refused } from "./dom.js";

/** Sends one act under its name; a retry keeps the name, so the act counts once. */
export function act(body, name) {
  return api("/api/act", {
    method: "POST",
    headers: { "content-type": "application/json", "x-midwatch-act": name },
    body: JSON.stringify(body),
  });
}

let forms = null;

/** By message; another act on the message that succeeds makes them void. */
const unsent = new Map();

/** Asks what the button wants asked and presses it; false means that the person changed their mind. */
export async function ask(message, button) {
  if (button.confirm && !(await confirmed(button))) return false;
  forms ??= await api("/api/forms");
  const form = forms[button.action];
  const what = `${button.action} ${button.value}`;
  const before = form && unsent.get(message.ts)?.what === what ? unsent.get(message.ts) : {};
  const answers = form ? await formDialog(form, before.answers) : {};
  if (!answers) return false;
  const reason = form ? inWords(answers) : null;
  const name = form && before.reason === reason ? before.name : newName();
  try {
    await act({ kind: "click", channel: message.channel, message: message.ts, action: button.action, value: button.value, reason }, name);
  } catch (error) {
    if (!form || !(error instanceof Refused)) throw error;
    // A conflict means that the name is taken by other words: the next try needs one of its own.
    unsent.set(message.ts, { what, answers, reason, name: error.status === 409 ? newName() : name });
    throw new Refused(`${error.message} What you wrote is kept for the next try.`, error.status);
  }
  unsent.delete(message.ts);
  return true;
}

function confirmed(button) {
  return dialog({ title: button.label }, (close) => [
    h("p", {}, button.confirm),
    h("div", { class: "row end" },
      h("button", { type: "button", onclick: () => close() }, "Cancel"),
      h("button", { type: "button", class: button.style, "data-confirm": true, autofocus: true, onclick: () => close(true) }, button.label.replace(/…$/, ""))),
  ]);
}

/** The form of a button, as the watch describes it; Slack shows the same one. Resolves with the answers. */
function formDialog(form, before = {}) {
  return dialog({ title: form.title }, (close) => {
    const fields = form.inputs.map((input) => {
      const id = `form-${input.id}`;
      const same = { id, required: !input.optional, "aria-describedby": input.hint ? `${id}-hint` : null };
      const field = input.kind.kind === "choice" ? h("select", same, input.kind.options.map(([value, label]) => h("option", { value }, label)))
        : input.kind.kind === "line" ? h("input", { ...same, type: "text", maxlength: "400" })
        : h("textarea", { ...same, rows: "3", maxlength: "900", autofocus: true });
      if (before[input.id]) field.value = before[input.id];
      return { input, field, id };
    });
    const submit = (event) => {
      event.preventDefault();
      const given = ({ input, field }) => (field.value.trim() || input.optional ? field.value.trim() : undefined);
      const answers = fields.map((one) => [one.input.id, given(one)]);
      if (answers.some(([, words]) => words === undefined)) return;
      close(Object.fromEntries(answers));
    };
    for (const { field } of fields) field.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit(event));
    return h("form", { onsubmit: submit },
      fields.map(({ input, field, id }) => [h("label", { for: id }, input.label), field, input.hint && h("p", { class: "hint", id: `${id}-hint` }, input.hint)]),
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => close() }, "Cancel"), h("button", { type: "submit", class: "primary" }, form.send)));
  });
}

/** One line, as a command would take it (`Form::words` says the same for Slack). */
function inWords({ matchers, span, part, reason }) {
  if (span) return [matchers, `for ${span}`, `because ${reason}`].filter(Boolean).join(" ");
  return part ? `${part}: ${reason}` : reason;
}
