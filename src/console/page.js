// The page of one incident, the page of the watch itself, and the drawer that shows evidence.

import { api, clock, code, dialog, evidenceChip, h, keepingFocus, markdown, picture, Refused, spans, time, toast } from "./dom.js";

const KINDS = { metric: "Metric", log: "Log", kubernetes: "Kubernetes", change: "Change", runbook: "Runbook", incident: "Past incident", topology: "Topology", trace: "Trace", answer: "Answer of a tool" };

export async function openEvidence(id) {
  if (document.querySelector("dialog.drawer[open]")) return;
  let item;
  try {
    item = await api(`/api/evidence/${encodeURIComponent(id)}`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return toast(error.message);
  }
  await dialog({ title: `${item.mark} · ${KINDS[item.kind] ?? item.kind}`, side: true, label: `Evidence ${item.mark}` }, () => [
    h("p", { class: "lead" }, item.summary),
    graph(item),
    item.series?.length ? numbers(item) : null,
    item.query && [h("h3", {}, "Asked"), code(item.query, "wrap")],
    item.body && [h("h3", {}, "Answered"), code(item.body, item.kind === "runbook" || item.kind === "incident" ? "wrap" : "")],
    h("dl", { class: "facts" },
      fact("Source", item.source), fact("Seen", time(item.at)),
      fact("Digest", h("code", { title: item.digest }, item.digest.slice(0, 12))), fact("Id", h("code", {}, item.id))),
  ]);
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function graph(item) {
  if (!item.series?.length) return null;
  return picture(`/evidence/${encodeURIComponent(item.id)}/graph.svg`, `Graph: ${item.summary}`, item.summary);
}

function numbers(item) {
  const short = (value) => (Number.isFinite(value) ? `${+value.toPrecision(3)} ${item.unit}`.trim() : "–");
  const rows = item.series.map((series) => {
    const values = series.points.map(([, value]) => value).filter((value) => value !== null);
    if (!values.length) return h("tr", {}, h("th", { scope: "row" }, series.name), h("td", { colspan: "3" }, "no samples"));
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    return h("tr", {}, h("th", { scope: "row" }, series.name), [low, high, values[values.length - 1]].map((value) => h("td", {}, short(value))));
  });
  return table(["Series", "Lowest", "Highest", "Last"], rows);
}

const table = (heads, rows) => h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows)));

let drawn = null;

/**
 * Puts a page into the centre, of an incident or of the watch (`key` ""). When nothing changed it is left
 * as it is; otherwise it keeps its scroll, its open parts and the focus. What the page is, it says itself.
 */
function put(centre, key, content, build) {
  const text = JSON.stringify(content);
  const before = centre.querySelector(".page");
  const isSame = before?.dataset.incident === key;
  if (isSame && drawn === text) return;
  drawn = text;
  const scroll = isSame ? before.scrollTop : 0;
  const open = new Set(isSame ? [...before.querySelectorAll("details[open]")].map((node) => node.dataset.key) : []);
  const [bar, ...sheet] = build();
  const body = h("div", { class: "page", tabindex: "0", "data-incident": key }, h("div", { class: "sheet" }, sheet));
  for (const node of body.querySelectorAll("details")) node.open = node.open || open.has(node.dataset.key);
  keepingFocus(centre, () => centre.replaceChildren(bar, body));
  body.scrollTop = scroll;
}

/** Draws the incident if it is still wanted. */
export async function showIncident(centre, id, topBar, actsOn, isWanted) {
  const page = await api(`/api/incidents/${encodeURIComponent(id)}`);
  if (!isWanted()) return false;
  put(centre, id, page, () => incident(page, topBar(id, talk(page.row)), actsOn));
  return true;
}

function incident(page, bar, actsOn) {
  const parts = [
    ["Timeline", page.timeline.length && timeline(page)],
    ["Candidates", page.candidates.length && candidates(page)],
    ["Evidence", page.evidence.length && evidence(page)],
    ["Topology", page.topology.nodes.length && topology(page)],
    ["Alerts", page.alerts.length && alerts(page)],
    ["Funnel", funnel(page)],
    ["Transcript", (page.transcript.length || page.reasoning) && transcript(page)],
    ["Post-mortem", page.post_mortem && h("div", { class: "prose" }, markdown(page.post_mortem, page.row.id))],
  ].filter(([, body]) => body);
  const anchor = (name) => name.toLowerCase().replace(/\W/g, "");
  const jump = (name) => h("button", { type: "button", onclick: () => { const section = document.getElementById(anchor(name)); section.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" }); section.focus({ preventScroll: true }); } }, name);
  return [
    bar,
    masthead(page),
    actsOn(page.row),
    h("nav", { class: "jump", "aria-label": "On this page" }, parts.map(([name]) => jump(name))),
    page.plan && plan(page.plan, page.row),
    parts.map(([name, content]) => h("section", { id: anchor(name), tabindex: "-1", "aria-label": name }, h("h2", {}, name), content)),
  ];
}

const talk = (row) => row.channel && row.ts && h("a", { class: "more", href: `/?channel=${encodeURIComponent(row.channel)}&thread=${encodeURIComponent(row.ts)}` }, "Open the conversation");

function masthead({ row, owner, confidence, root_cause: cause, summary }) {
  return h("header", { class: "masthead" },
    h("p", { class: "over" }, h("span", { class: `sev ${row.severity.toLowerCase()}` }, row.severity), h("span", { class: `state${row.needs_you ? " needs-you" : ""}` }, row.state)),
    h("h2", { class: "headline" }, row.title),
    summary.length > 0 && h("p", { class: "lead" }, spans(summary)),
    h("dl", { class: "facts" },
      cause && fact("Root cause", [h("code", {}, cause.service), cause.change ? `, ${cause.change}` : ""]),
      confidence && fact("Confidence", [`${confidence.word} `, meter(confidence.number, "Confidence"), h("span", { class: "num" }, ` ${Math.round(confidence.number * 100)} %`)]),
      fact("Service", h("code", {}, row.service)),
      fact("Began", [time(row.opened_at), ", ", time(row.opened_at, "away")]),
      row.closed_at && fact("Ended", time(row.closed_at)),
      fact("Alerts", String(row.alerts)),
      fact("Owner", owner ? `@${owner}` : "nobody yet")));
}

function meter(share, label) {
  const fill = h("i");
  fill.style.setProperty("width", `${Math.round(Math.max(0, Math.min(1, share)) * 100)}%`);
  return h("span", { class: "meter", role: "img", "aria-label": `${label} ${Math.round(share * 100)} percent` }, fill);
}

function plan(view, row) {
  return h("section", { class: "plan", "aria-label": "Plan" },
    h("p", { class: "kicker" }, `Plan, ${view.state}`),
    h("h3", {}, view.action, " ", h("code", {}, view.target)),
    h("dl", { class: "facts" },
      fact("Risk", h("span", { class: `tier ${view.tier}` }, view.tier)), fact("Blast radius", view.blast_radius),
      fact("Undo", view.undo), fact("Success check", view.success_check),
      view.expires_at && fact("Expires", time(view.expires_at)), fact("UID", h("code", {}, view.uid)),
      fact("Digest", h("code", { title: view.digest }, view.digest.slice(0, 12)))),
    view.diff && code(view.diff),
    view.votes.length > 0 && h("ul", {}, view.votes.map((vote) => h("li", {}, vote))),
    row.needs_you && row.channel && row.ts && h("p", {}, "Approve or reject it in the conversation: ", talk(row)));
}

const timeline = ({ timeline: items }) => h("ol", { class: "timeline" }, items.map((item) => h("li", { class: `kind-${item.kind.replace(/\W/g, "")}` },
  time(item.at), h("span", { class: "kind" }, item.kind),
  h("span", { class: "what" }, item.spans.length ? spans(item.spans) : item.text, " ", item.evidence.map((id) => [evidenceChip(id), " "])))));

const candidates = ({ candidates: items }) => h("ol", { class: "candidates" }, items.map((item) => h("li", {},
  h("div", { class: "line" }, h("span", { class: "rank" }, String(item.rank)), h("code", {}, item.node), meter(item.score, "Score"), h("span", { class: "num" }, item.score.toFixed(2))),
  h("ul", { class: "why" },
    item.for.map((text) => h("li", { class: "for" }, h("b", {}, "for"), text)),
    item.against.map((text) => h("li", { class: "against" }, h("b", {}, "against"), text))))));

const evidence = ({ evidence: items }) => h("div", { class: "evidence" }, items.map((item) => h("article", { class: item.series?.length ? "with-graph" : "" },
  h("p", { class: "line" }, evidenceChip(item.id), h("span", { class: "kind" }, `${KINDS[item.kind] ?? item.kind}, ${item.source}, `, clock(item.at))),
  h("p", {}, item.summary), graph(item) ?? (item.body && code(excerpt(item.body))))));

function excerpt(body) {
  const lines = body.trimEnd().split("\n");
  return lines.length > 5 ? [...lines.slice(0, 4), `… ${lines.length - 4} more lines`].join("\n") : lines.join("\n");
}

const topology = (page) => [
  picture(`/incident/${encodeURIComponent(page.row.id)}/topology.svg`, describe(page.topology), "Topology"),
  h("p", { class: "key" }, h("span", { class: "cause" }, "cause"), h("span", { class: "affected" }, "affected"), h("span", { class: "well" }, "well"), "Callers stand above what they call."),
];

function describe({ nodes }) {
  const of = (state) => nodes.filter((node) => node.state === state).map((node) => node.id).join(", ") || "none";
  return `${nodes.length} nodes. Cause: ${of("cause")}. Affected: ${of("affected")}.`;
}

const alerts = ({ alerts: items }) => table(["Alert", "On", "Severity", "Times", "First", "Last", "Verdict"], items.map((item) => h("tr", {},
  h("th", { scope: "row" }, item.name), h("td", {}, h("code", {}, item.subject)), h("td", {}, item.severity), h("td", { class: "num" }, String(item.count)),
  h("td", {}, time(item.first_at)), h("td", {}, time(item.last_at)), h("td", {}, h("strong", {}, item.verdict), h("span", { class: "reason" }, item.reason)))));

const funnel = (page) => picture(`/incident/${encodeURIComponent(page.row.id)}/funnel.svg`, "How many alerts came in and how many people heard of them", "Alert funnel");

const reasoned = (title, items) => items.length > 0 && [h("h3", {}, title), h("ul", {}, items.map((item) => h("li", {}, item.text, " ", item.note && h("span", { class: "reason" }, item.note))))];

const price = (step) => `${step.ms} ms, ${step.tokens} tokens${step.cost > 0 ? `, ${step.cost.toFixed(4)}` : ""}`;

const transcript = ({ transcript: steps, reasoning }) => [reasoning && h("div", { class: "reasoning" },
  h("p", { class: "context" }, "reasoned by ", h("code", {}, reasoning.reasoner)),
  reasoned("What carries it", reasoning.claims), reasoned("Ruled out", reasoning.ruled_out), reasoned("Claimed, and not kept", reasoning.dropped),
  reasoning.needs && h("p", {}, h("strong", {}, "Missing: "), reasoning.needs)), h("ol", { class: "transcript" }, steps.map((step) => h("li", {}, h("details", { "data-key": `step-${step.step}` },
  h("summary", {}, h("span", { class: "rank" }, String(step.step)), h("span", { class: "context" }, step.who), h("code", {}, step.tool), h("span", { class: "grow" }, step.thought), h("span", { class: "num" }, price(step))),
  h("p", {}, step.thought), code(step.arguments),
  h("p", { class: "context" }, "answer ", h("code", { title: step.observation_digest }, step.observation_digest.slice(0, 12)), " ", step.evidence && evidenceChip(step.evidence))))))];

/** `notKnown` says why this is not the latest; what is known stays on the page. */
export function showWatch(centre, topBar, status, incidents, notKnown) {
  put(centre, "", [status, incidents, notKnown], () => watch(topBar("The watch"), status, incidents, notKnown));
}

function watch(bar, status, incidents, notKnown) {
  const row = (item) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: `/incident/${encodeURIComponent(item.id)}` }, item.id)), h("td", {}, h("span", { class: `sev ${item.severity.toLowerCase()}` }, item.severity)),
    h("td", {}, item.title), h("td", {}, item.state), h("td", {}, h("code", {}, item.service)), h("td", {}, time(item.opened_at)), h("td", { class: "num" }, String(item.alerts)));
  const open = status.open_incidents;
  return [
    bar,
    h("header", { class: "masthead" },
      h("h2", { class: "headline" }, status.paused ? "Remediation is paused" : open ? `${open} open ${open === 1 ? "incident" : "incidents"}` : notKnown ? "Not known" : "All quiet"),
      notKnown && h("p", { class: "lead" }, notKnown),
      status.paused && h("p", { class: "lead" }, status.paused),
      h("dl", { class: "facts" },
        fact("Waiting for approval", String(status.pending_approvals)), fact("Model", status.model || "none: grouping and ranking go on without it"),
        fact("Version", status.version), status.facts.map(({ name, value }) => fact(name, value)))),
    h("section", { "aria-label": "Funnel" }, h("h2", {}, "From noise to news"), picture("/watch/funnel.svg", status.funnel.stages.map((stage) => `${stage.name} ${stage.count}`).join(", "), "Alert funnel")),
    h("section", { "aria-label": "Incidents" }, h("h2", {}, "Incidents"), incidents.length ? table(["Id", "", "Title", "State", "Service", "Began", "Alerts"], incidents.map(row)) : h("p", { class: "calm" }, notKnown ? "Not known." : "None yet.")),
  ];
}
