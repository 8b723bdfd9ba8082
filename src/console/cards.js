// Cards and messages as nodes; what their buttons do is the desk's.

import { clock, code, h, picture, spans, time } from "./dom.js";

function block(message, part, desk) {
  switch (part.block) {
    case "header": return header(part);
    case "fields": return h("dl", { class: "fields" }, part.fields.map((field) => h("div", {}, h("dt", {}, field.label), h("dd", {}, spans(field.value)))));
    case "text": return h("p", {}, spans(part.spans));
    case "list": return h("ul", {}, part.items.map((item) => h("li", {}, spans(item))));
    case "code": return code(part.text);
    case "picture": return picture(part.path, part.alt, part.title);
    case "actions": return h("div", { class: "row actions" }, part.buttons.map((button) => actionButton(message, button, desk)));
    case "context": return h("p", { class: "context" }, spans(part.spans));
    case "divider": return h("hr");
    default: return null;
  }
}

function header(part) {
  const severity = /^\[?(SEV\d)\]?\s*/.exec(part.text);
  const text = severity ? part.text.slice(severity[0].length) : part.text;
  return h("h3", {}, severity && h("span", { class: `sev ${severity[1].toLowerCase()}` }, severity[1]), text);
}

/** `desk`: how a vote stands, how a button is pressed and how a thread is opened. */
export function actionButton(message, button, desk) {
  const isVote = button.action.startsWith("thumbs_");
  const voted = desk.vote(message, button) === button.action;
  const node = h("button", {
    type: "button",
    class: `${button.style}${isVote ? " vote" : ""}`,
    "data-action": button.action,
    "aria-pressed": isVote ? String(voted) : null,
    onclick: () => desk.press(message, button, node),
  }, isVote && thumb(button.action), button.label);
  return node;
}

/** Drawn, since not every machine has emoji. */
function thumb(action) {
  const make = (tag, props) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
    return node;
  };
  const icon = make("svg", { viewBox: "0 0 20 20", width: "16", height: "16", "aria-hidden": "true", class: action });
  icon.append(make("path", { d: "M2.8 9h3v8h-3zM5.8 9.4 9.3 2.6c1.6 0 2.3 1 2.1 2.4L11 8h4.9c1 0 1.7.9 1.4 1.9l-1.5 5.7c-.2.8-.9 1.4-1.8 1.4H5.8z", fill: "none", stroke: "currentColor", "stroke-width": "1.5", "stroke-linejoin": "round" }));
  return icon;
}

export function messageNode(message, place, desk) {
  const { blocks } = message.card;
  const tone = blocks.find((part) => part.block === "header")?.tone;
  const decides = blocks.some((part) => part.block === "actions" && part.buttons.some((button) => button.action === "approve"));
  const isPerson = message.author.kind === "person";
  const classes = ["message", isPerson ? "from-person" : "from-watch", tone && `tone-${tone}`, message.whisper && "whisper", decides && "decision"];
  const card = blocks.length ? blocks.map((part) => block(message, part, desk)) : h("p", {}, message.card.fallback);
  const replies = place === "channel" && (message.replies > 0 || !isPerson) && h("button", {
    type: "button",
    class: "replies",
    "aria-label": message.replies ? `${message.replies} ${message.replies === 1 ? "reply" : "replies"}: open the thread` : "Reply in a thread",
    onclick: () => desk.openThread(message.ts),
  }, message.replies ? [h("strong", {}, `${message.replies} ${message.replies === 1 ? "reply" : "replies"}`), h("span", {}, " last ", time(message.last_reply_at, "away"))] : "Reply");
  return h("article", { class: classes.filter(Boolean).join(" "), "data-ts": message.ts, "aria-label": message.card.fallback.slice(0, 120) },
    isPerson ? h("span", { class: "face", "aria-hidden": "true" }, message.author.name.slice(0, 1).toUpperCase()) : h("img", { class: "face", src: "/assets/mark.svg", alt: "" }),
    h("div", { class: "body" },
      h("header", {}, h("strong", {}, isPerson ? message.author.name : "midwatch"), time(message.at),
        message.edited_at && h("span", { title: `changed ${clock(message.edited_at)}` }, "edited"),
        message.whisper && h("span", { class: "only" }, "only you see this")),
      decides && h("p", { class: "kicker" }, "Your decision"),
      h("div", { class: "card" }, card), replies));
}
