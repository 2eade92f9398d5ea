// A problem's attempts side by side: a column per operator, a row per number.

import { byId, counted, el, plain, visible } from "./dom.js";
import { GRADES, LABELS } from "./statistics.js";

const USUAL = ["rollouts", "attempts"]; // folders that need no mention
const LONG = 600; // characters of a question that is folded
const LONGEST = 6000; // characters of the names of one question about regimes

export class AttemptTable {
  #source;
  #choose;
  #columns = [];
  #cells = new Map();
  #given = {};
  #filters = {};

  /** `choose(trace)` hears the attempt that was chosen. */
  constructor(source, choose) {
    this.#source = source;
    this.#choose = choose;
    this.rows = [];
  }

  /** Show the attempts at a problem; those that do not pass `filters` are pale. */
  async show(problem, filters) {
    const given = { name: problem.name, task: problem.of, folder: filters.folder };
    const answer = await this.#source.ask("attempts", given);
    this.rows = answer.rows;
    this.#given = given;
    this.#cells = new Map();
    this.#columns = answer.columns.map((column) => ({ ...column, rows: [] }));
    this.#sort(answer.rows);
    const room = el("div", { class: "attempts" }, this.#table(), this.#rest(answer));
    byId("problem").replaceChildren(...this.#head(problem, answer), room);
    this.filter(filters);
    this.#regimes(answer.rows);
  }

  #sort(rows) {
    const key = ({ folder, operator }) => `${folder}\n${operator}`;
    const columns = new Map(this.#columns.map((column) => [key(column), column]));
    for (const row of rows) columns.get(key(row)).rows.push(row);
    for (const column of this.#columns) column.rows.sort((a, b) => a.attempt - b.attempt);
  }

  // What follows the rows of a long table.
  #rest({ next }) {
    if (next === null) return null;
    const all = Math.max(...this.#columns.map(({ made }) => made));
    const said = `The first ${next} rows of ${all}; the heads count all attempts.`;
    const more = el("button", {
      type: "button",
      text: "show more rows",
      on: { click: () => this.#more(next) },
    });
    return el("p", { class: "rest" }, el("span", { text: `${said} ` }), more);
  }

  async #more(next) {
    const asked = this.rows;
    const answer = await this.#source
      .ask("attempts", { ...this.#given, from: next })
      .catch(() => null); // the button is still there
    if (!answer || asked !== this.rows) return;
    this.rows.push(...answer.rows);
    this.#sort(answer.rows);
    const room = byId("problem").querySelector(".attempts");
    room.querySelector("tbody").replaceChildren(...this.#lines());
    room.querySelector(".rest").replaceWith(this.#rest(answer) ?? "");
    this.filter(this.#filters);
    this.#regimes(answer.rows);
  }

  /** Make attempts pale that do not pass. */
  filter(filters) {
    this.#filters = filters;
    for (const row of this.rows) {
      const passes =
        (!filters.operator || row.operator === filters.operator) &&
        (!filters.truncated || row.truncated) &&
        (!filters.fired || row.fired) &&
        (!filters.grade ||
          row.grade === filters.grade ||
          (filters.grade === "failed" && failed(row)));
      this.#cells.get(row.trace).classList.toggle("pale", !passes);
    }
  }

  /** Mark the attempts that are shown. */
  mark(...traces) {
    for (const [trace, cell] of this.#cells) {
      cell.setAttribute("aria-pressed", String(traces.includes(trace)));
    }
    const chosen = this.#cells.get(traces[0]);
    const wide = chosen?.closest(".wide");
    if (!wide) return;
    const head = wide.querySelector("thead").offsetHeight;
    wide.style.setProperty("scroll-padding-top", `${head}px`);
    chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** The attempt that is `by` after another one, in the order of the columns. */
  after(trace, by) {
    const order = this.#columns.flatMap(({ rows }) => rows.map((row) => row.trace));
    const at = order.indexOf(trace);
    return at < 0 ? order[0] : order[at + by];
  }

  /** The attempt to show first: a failed rollout, else the first. */
  first() {
    return (this.rows.find(failed) ?? this.rows[0])?.trace;
  }

  #head(problem, answer) {
    const label = answer.label
      ? el("span", { class: "tag", text: LABELS[answer.label] })
      : null;
    const length = answer.question_characters;
    const question = el(
      "div",
      { class: "text asked", dir: "auto" },
      visible(answer.question),
      beginning(answer.question, length),
    );
    const folded = el(
      "details",
      {},
      el("summary", { text: `question, ${counted(length, "character")}` }),
      question,
    );
    return [
      el(
        "div",
        { class: "heading" },
        el("button", {
          type: "button",
          class: "back",
          text: "‹ problems",
          on: {
            click: () => {
              document.body.dataset.shown = "problems";
            },
          },
        }),
        el("h2", {}, visible(problem.name)),
        label,
      ),
      length > LONG ? folded : question,
      el(
        "p",
        { class: "note reference" },
        "reference: ",
        el("bdi", {}, visible(answer.reference)),
        beginning(answer.reference, answer.reference_characters),
      ),
    ];
  }

  #table() {
    const head = this.#columns.map((column) => {
      const where = USUAL.includes(column.folder)
        ? null
        : el("span", { class: "note", text: plain(column.folder) });
      return el(
        "th",
        { scope: "col", title: plain(column.operator) },
        el("span", {}, breakable(column.operator)),
        where,
        el("span", { class: "note", text: `right ${column.right} of ${column.made}` }),
        this.#kept(column),
      );
    });
    const table = el(
      "table",
      {},
      el("thead", {}, el("tr", {}, el("th", { text: "#" }), head)),
      el("tbody", {}, this.#lines()),
    );
    table.style.setProperty("--columns", Math.max(1, this.#columns.length));
    return el(
      "div",
      {
        class: "wide",
        tabindex: "0",
        role: "region",
        "aria-label": "attempts by operator",
      },
      table,
    );
  }

  // An exported file holds a part of the attempts.
  #kept({ made, rows }) {
    const rest = this.#source.partial && rows.length < made;
    return rest ? el("span", { class: "note", text: `${rows.length} in this file` }) : null;
  }

  // A row per number of an attempt, which need not be all numbers: an exported file
  // leaves some out. A number that a column has twice makes a second row.
  #lines() {
    const lines = new Map();
    this.#columns.forEach(({ rows }, at) => {
      let again = 0;
      rows.forEach((row, i) => {
        again = rows[i - 1]?.attempt === row.attempt ? again + 1 : 0;
        const name = `${row.attempt} ${again}`;
        const line = lines.get(name) ?? { number: row.attempt, again, cells: [] };
        line.cells[at] = row;
        lines.set(name, line);
      });
    });
    const order = [...lines.values()];
    order.sort((a, b) => a.number - b.number || a.again - b.again);
    return order.map(({ number, cells }) => {
      const own = this.#columns.map((_, at) =>
        el("td", {}, cells[at] ? this.#cell(cells[at]) : null),
      );
      return el("tr", {}, el("th", { scope: "row", text: String(number) }), own);
    });
  }

  #cell(row) {
    const held = this.#cells.get(row.trace);
    if (held) return held;
    const grade = GRADES[row.grade] ?? { sign: "·", title: plain(row.grade) };
    const answer =
      row.answer === null ? visible(row.begin || "(no text)") : visible(row.answer);
    const marks = [row.fired ? "◆ fired" : "", row.truncated ? "✂ truncated" : ""].filter(
      Boolean,
    );
    const about = `${grade.title}, ${counted(row.tokens, "token")}${marks.length ? `, ${marks.join(", ")}` : ""}`;
    const cell = el(
      "button",
      {
        type: "button",
        class: "attempt",
        "data-grade": row.grade,
        "aria-pressed": "false",
        title: about,
        on: { click: () => this.#choose(row.trace) },
      },
      el("span", { class: "grade", "aria-label": grade.title, text: grade.sign }),
      el("bdi", { class: "answer" }, answer),
      el("span", { class: "note" }, `${row.tokens} tokens `, marks.join(" ")),
      el("span", { class: "note regime" }),
    );
    this.#cells.set(row.trace, cell);
    return cell;
  }

  async #regimes(rows) {
    const asked = this.rows;
    const names = rows.filter(failed).map((row) => row.trace);
    while (names.length) {
      const given = { traces: names.splice(0, fitting(names)) };
      const slot = `regimes ${given.traces[0]}`;
      const told = await this.#source.ask("regimes", given, slot).catch(() => ({}));
      if (asked !== this.rows) return;
      for (const [trace, regime] of Object.entries(told)) {
        this.#cells.get(trace).querySelector(".regime").textContent = plain(regime);
      }
    }
  }
}

/** True for a wrong attempt and for one without an answer. */
function failed(row) {
  return row.grade === "wrong" || row.grade === "unparsed";
}

// A name that may be broken after its signs.
function breakable(name) {
  return name
    .split(/(?<=[_@.:/-])/)
    .flatMap((part, i) => [i ? el("wbr") : null, ...visible(part)]);
}

// The number of names, from the first, that one question holds.
function fitting(names) {
  let left = LONGEST;
  const end = names.findIndex((name) => (left -= encodeURIComponent(name).length) < 0);
  return end < 0 ? names.length : Math.max(1, end);
}

// Says that a text goes on.
function beginning(text, length) {
  const shown = [...text].length;
  if (shown >= length) return null;
  const all = counted(length, "character");
  const said = `… the first ${shown.toLocaleString("en")} of ${all}`;
  return el("span", { class: "note", text: said });
}
