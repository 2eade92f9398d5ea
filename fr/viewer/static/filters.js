// The form above the list of problems.

import { byId, el, option, plain } from "./dom.js";
import { GRADES, LABELS } from "./statistics.js";

const ORDERS = {
  run: "order of the run",
  failed: "most failed first",
  solved: "least failed first",
  attempts: "most attempts first",
  name: "name",
};
const PAUSE = 250; // ms after the last key before a text is searched
const waiting = new Map(); // timers of texts that are not searched yet, by field

/** Build the form for what a run has; `changed(name, value)` hears every choice. */
export function buildFilters(run, choices, changed) {
  const grades = { failed: "failed" };
  for (const grade of run.grades) grades[grade] = GRADES[grade]?.title ?? plain(grade);
  const some = (names) => Object.fromEntries(names.map((name) => [name, plain(name)]));
  const rows = [
    text("text", "search texts", "in questions and completions", changed),
    text("failed", "failed rollouts", "3, 2-5 or 2-", changed),
    choice("task", "task", some(run.tasks), changed),
    choice(
      "label",
      "label",
      Object.fromEntries(run.labels.map((n) => [n, LABELS[n]])),
      changed,
    ),
    choice("grade", "grade", grades, changed),
    choice("operator", "operator", some(run.operators), changed),
    choice("regime", "regime", some(run.regimes), changed),
    choice("folder", "folder", some(run.folders), changed),
    choice("order", "order", ORDERS, changed, true),
    tick("truncated", "truncated", changed),
    tick("fired", "detector fired", changed),
  ];
  const clear = el("button", {
    type: "button",
    id: "clear",
    text: "clear",
    on: {
      click: () => {
        forgetTexts();
        changed(null);
      },
    },
  });
  const more = el(
    "details",
    {},
    el("summary", { text: "filters" }),
    el("div", { class: "fields" }, rows.slice(1), clear),
  );
  more.open = matchMedia("(min-width: 800px)").matches;
  byId("filters").replaceChildren(rows[0], more);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  showFilters(choices);
}

/** Forget the texts that were typed and are not searched yet. */
export function forgetTexts() {
  for (const timer of waiting.values()) clearTimeout(timer);
  waiting.clear();
}

/** Show choices in the form, such as those of a link; a text that waits stays. */
export function showFilters(choices) {
  for (const field of byId("filters").elements) {
    if (waiting.has(field.name)) continue;
    if (field.type === "checkbox") field.checked = Boolean(choices[field.name]);
    else if (field.name === "order") field.value = choices.order || "run";
    else if (field.name && document.activeElement !== field)
      field.value = choices[field.name] ?? "";
  }
}

function label(title, field) {
  return el("label", {}, el("span", { text: title }), field);
}

function text(name, title, hint, changed) {
  const listen = ({ target: { value } }) => {
    clearTimeout(waiting.get(name));
    const search = () => {
      waiting.delete(name);
      changed(name, value);
    };
    waiting.set(name, setTimeout(search, PAUSE));
  };
  const given = {
    name,
    type: "search",
    placeholder: hint,
    maxlength: 500,
    autocomplete: "off",
    spellcheck: "false",
  };
  return label(title, el("input", { ...given, on: { input: listen } }));
}

function choice(name, title, options, changed, always = false) {
  const names = Object.entries(options);
  if (!always && names.length < 2 && name !== "regime") return null;
  const listed = names.map(([value, shown]) => option(value, shown));
  const any = always ? [] : [option("", "any")];
  const listen = (event) => changed(name, event.target.value);
  return label(title, el("select", { name, on: { change: listen } }, any, listed));
}

function tick(name, title, changed) {
  const listen = (event) => changed(name, event.target.checked ? "1" : "");
  return el(
    "label",
    { class: "tick" },
    el("input", { name, type: "checkbox", on: { change: listen } }),
    el("span", { text: title }),
  );
}
