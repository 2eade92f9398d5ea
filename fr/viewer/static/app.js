// The page: choices go to the link, and the link is what is shown.

import { AttemptTable } from "./attempts.js";
import { byId, counted, el, plain } from "./dom.js";
import { buildFilters, forgetTexts, showFilters } from "./filters.js";
import { KEYS, listen } from "./keyboard.js";
import { FILTERS, readLink, writeLink } from "./link.js";
import { ProblemList } from "./problems.js";
import { ServerSource, replaced } from "./source.js";
import { openSource } from "./opened.js";
import { turnTheme } from "./theme.js";
import { TraceView } from "./trace.js";

const source = openSource() ?? new ServerSource();
const problems = new ProblemList(source, (row) =>
  choose({ of: row.task, name: row.name, trace: "", versus: "", token: "" }, "problem"),
);
const attempts = new AttemptTable(source, (trace) => take(trace));
const trace = new TraceView(source, (choices) => {
  if (choices.pin) pinned = choices.pin;
  else choose(choices);
  note();
});
let shown = {};
let rounds = 0; // a message of an earlier choice is not shown after a later one
let pinned = ""; // an attempt that the next choice is compared with

/** Change choices, write the link and show them; `round`: a part of another choice. */
function choose(choices, view, round) {
  if (view) document.body.dataset.shown = view;
  const next = { ...readLink(), ...choices };
  writeLink(next, choices.name !== undefined || choices.trace !== undefined);
  return show(next, round);
}

/** Choose an attempt; a pinned one is compared with it. */
function take(name) {
  const versus = pinned && pinned !== name ? pinned : "";
  pinned = "";
  choose({ trace: name, versus, token: "" });
  note();
}

function note() {
  document.body.classList.toggle("pinning", pinned !== "");
}

/** Show choices: only what differs from what is shown is asked for. */
async function show(next, round = ++rounds) {
  const last = shown;
  shown = next;
  const differs = (...names) => names.some((name) => next[name] !== last[name]);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, next[name]]));
  showFilters(next);
  await guarded(round, async () => {
    const work = [];
    if (differs(...FILTERS)) work.push(problems.filter(filters));
    if (next.name && differs("name", "of"))
      problems.mark({ task: next.of, name: next.name });
    if (next.name && differs("name", "of", "folder")) {
      await attempts.show(next, filters);
      if (!next.trace && attempts.first()) {
        work.push(choose({ trace: attempts.first() }, "", round));
        await Promise.all(work);
        return;
      }
    } else if (differs(...FILTERS)) attempts.filter(filters);
    if (next.trace) {
      attempts.mark(next.trace, next.versus);
      if (differs("trace", "versus")) work.push(trace.show(next));
      else if (differs("by") && next.by) work.push(trace.shade(next.by));
      else if (differs("token")) trace.point(Number(next.token) || 0, true);
    } else byId("trace").replaceChildren();
    await Promise.all(work);
  });
}

/** Run, and show the reason if it fails, unless something else was chosen meanwhile. */
async function guarded(round, work) {
  try {
    byId("error").hidden = true;
    await work();
  } catch (error) {
    if (replaced(error) || round !== rounds) return;
    byId("error").textContent = plain(error.message);
    byId("error").hidden = false;
  }
}

function keysDialog() {
  const rows = KEYS.map(([keys, does]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("kbd", { text: keys })),
      el("td", { text: does }),
    ),
  );
  byId("keys").replaceChildren(
    el("h2", { text: "Keys" }),
    el("table", {}, el("tbody", {}, rows)),
    el("form", { method: "dialog" }, el("button", { text: "close" })),
  );
  byId("keys").showModal();
}

function step(by) {
  const name = attempts.after(shown.trace, by);
  if (name) take(name);
}

function token(by) {
  trace.point(trace.token + by, true);
  choose({ token: String(trace.token) });
}

listen({
  problem: (by) => problems.step(by),
  attempt: step,
  token,
  jump: (kind) => trace.traces.length && trace.jump(kind),
  statistic: (by) => trace.traces.length && trace.next(by),
  compare: () => {
    const retry = trace.traces.at(-1)?.retry;
    if (retry) choose({ versus: retry });
  },
  pin: () => {
    pinned = shown.trace;
    note();
  },
  alone: () => choose({ versus: "" }),
  search: () => byId("filters").elements.text.focus(),
  theme: turnTheme,
  help: keysDialog,
  back: () => {
    pinned = "";
    note();
    document.body.dataset.shown = "problems";
  },
});
byId("help").addEventListener("click", keysDialog);
byId("theme").addEventListener("click", turnTheme);
addEventListener("popstate", () => {
  forgetTexts();
  show(readLink());
});

await guarded(rounds, async () => {
  const run = await source.ask("run");
  document.title = `traces of ${plain(run.workdir)}`;
  byId("title").textContent = plain(run.workdir);
  byId("facts").textContent = [
    counted(run.problems, "problem"),
    counted(run.attempts, "attempt"),
    plain(run.tasks.join(", ")),
    ...run.notes.map(plain),
  ].join(" · ");
  buildFilters(run, readLink(), (name, value) => {
    choose(
      name ? { [name]: value } : Object.fromEntries(FILTERS.map((filter) => [filter, ""])),
    );
  });
});
const given = readLink();
if (given.name) document.body.dataset.shown = "problem";
await show(given);
document.body.dataset.ready = "true";
