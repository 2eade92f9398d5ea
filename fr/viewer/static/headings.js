// What stands above the text of an attempt and of two attempts: choices, facts, marks.

import { byId, counted, el, option, plain, short, visible } from "./dom.js";
import { GRADES, LEVELS, about, namesOf, titled } from "./statistics.js";
import { firstDifference } from "./tokens.js";

/** The first token at which two attempts differ; null for one attempt and for equal ones. */
export function forkOf(traces) {
  return traces.length > 1 ? firstDifference(...traces) : null;
}

/** The choice of a statistic and of another attempt. */
export function tools(traces, by, changed) {
  const trace = traces.at(-1);
  const two = traces.length > 1;
  const pick = el(
    "select",
    { id: "by", on: { change: (event) => changed({ by: event.target.value }) } },
    [...new Set([...namesOf(traces), by])].map((name) => option(name, titled(name))),
  );
  pick.value = by;
  const button = (id, text, choices) =>
    el("button", { type: "button", id, text, on: { click: () => changed(choices) } });
  const retry = button("compare", "compare with its retry (d)", { versus: trace.retry });
  const one = [
    trace.retry ? retry : null,
    button("pin", "compare with another (c)", { pin: trace.trace }),
  ];
  return el(
    "div",
    { class: "tools" },
    el("label", {}, el("span", { text: "colour by" }), pick),
    two ? [button("alone", "one attempt (x)", { versus: "" }), difference(traces)] : one,
  );
}

// The place at which two attempts part, in words.
function difference([one, other]) {
  const fork = firstDifference(one, other);
  const said = { id: "difference" };
  if (fork === null)
    return el("p", { ...said, text: "Both attempts have the same tokens." });
  const same = (name) => one[name].join() === other[name].join();
  const keys = same("key")
    ? "The keys are the same, so both drew with the same random numbers."
    : "The keys differ, so the draws do, too.";
  const prompts = same("prompt") ? "" : " The prompts differ.";
  return el("p", said, [
    `Equal for ${counted(fork, "token")}, then `,
    wrote(one, fork),
    ", ",
    wrote(other, fork),
    `. ${keys}${prompts}`,
  ]);
}

function wrote(trace, i) {
  if (i >= trace.tokens.length) return `${plain(trace.operator)} nothing`;
  const piece = trace.pieces[i] ?? `id ${trace.tokens[i]}`;
  const quoted = el("code", {}, "“", el("bdi", {}, visible(piece)), "”");
  return [`${plain(trace.operator)} `, quoted];
}

// What the junction of each attempt is.
function junctions(traces) {
  const largest = traces.map((trace) => {
    if (trace.junction === null) return "none";
    return trace.junction_by === "demotion" ? "largest J" : "largest V";
  });
  if (largest.every((said) => said === "none")) return "";
  const same = new Set(largest).size === 1;
  const said = same ? largest[0] : `${largest[0]} in 1, ${largest[1]} in 2`;
  return `▼ junction: ${said}`;
}

/** Operator, grade, answer and facts of an attempt; `two`: with its number. */
export function head(trace, which, two) {
  const grade = GRADES[trace.grade] ?? { sign: "·", title: plain(trace.grade) };
  const forced = trace.forced.filter(Boolean).length;
  const facts = [
    counted(trace.tokens.length, "token"),
    trace.temperature === null ? "" : `temperature ${short(trace.temperature)}`,
    trace.alpha === null ? "" : `α ${short(trace.alpha)}`,
    forced ? `${forced} forced` : "",
    trace.rewound ? `↶ ${trace.rewound} rewound and drawn again` : "",
    ...Object.entries(trace.more).map(
      ([name, v]) => `${plain(name)} ${typeof v === "number" ? short(v, 4) : plain(v)}`,
    ),
  ];
  const side = two
    ? el("strong", { class: `side side-${which}`, text: `${which + 1}` })
    : null;
  return el(
    "header",
    { "data-grade": trace.grade },
    el("h3", {}, side, el("bdi", {}, visible(trace.operator)), ` ${trace.attempt}`),
    el(
      "p",
      {},
      el("span", { class: "grade", text: `${grade.sign} ${grade.title}` }),
      " answer: ",
      el("bdi", {}, visible(trace.answer ?? "none")),
    ),
    el("p", { class: "note", text: facts.filter(Boolean).join(" · ") }),
    trace.no_values ? el("p", { class: "note", text: plain(trace.no_values) }) : null,
  );
}

/** Show the scale of the colours and the meaning of the marks. */
export function showLegend(traces, by, scale) {
  const steps = Array.from({ length: LEVELS }, (_, level) =>
    el("span", { class: "t", "data-level": level }, " "),
  );
  const ends = scale?.low ? [scale.most, scale.least] : [scale?.least, scale?.most];
  const any = (name) => traces.some((t) => t[name].some(Boolean));
  const marks = [
    junctions(traces),
    any("fired") ? "◆ fired" : "",
    any("forced") ? "⏸ pause, then forced tokens" : "",
    forkOf(traces) === null ? "" : "≠ first difference",
  ];
  const without = traces.length > 1 ? "Neither attempt has" : "This attempt has no";
  const missing = el("span", { class: "note", text: `${without} ${about(by).title}.` });
  const one = traces.findIndex((t) => !t.stats[by]);
  const lacking = scale && one >= 0 ? `${one + 1} has no ${about(by).title}` : "";
  const shades = el(
    "span",
    { class: "scale" },
    short(ends[0]),
    el("span", { class: "steps" }, steps),
    short(ends[1]),
  );
  byId("legend").replaceChildren(
    scale ? shades : missing,
    el("span", { class: "note", text: about(by).meaning }),
    lacking ? el("strong", { class: "note", text: lacking }) : "",
    el("span", { class: "note", text: marks.filter(Boolean).join(" · ") }),
  );
}

/** Marks of the curves: first token, kind, and for forced tokens the last one. */
export function marksOf(traces) {
  const trace = traces.at(-1);
  const marks = trace.fired.flatMap((on, i) => (on ? [[i, "fired"]] : []));
  trace.forced.forEach((on, i) => {
    if (!on) return;
    const last = marks.at(-1);
    if (last?.[1] === "forced" && last[2] === i - 1) last[2] = i;
    else marks.push([i, "forced", i]);
  });
  if (trace.junction !== null) marks.push([trace.junction, "junction"]);
  const fork = forkOf(traces);
  return fork === null ? marks : [...marks, [fork, "fork"]];
}
