// A problem's attempts side by side: a column per operator, a row per attempt.

import { byId, counted, el, plain, visible } from "./dom.js";
import { GRADES, LABELS } from "./statistics.js";

const USUAL = ["rollouts", "attempts"]; // folders that need no mention
const AT_ONCE = 400; // attempts of one question about regimes

export class AttemptTable {
  #source;
  #choose;
  #columns = [];
  #cells = new Map();

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
    this.#columns = columnsOf(this.rows);
    this.#cells = new Map();
    byId("problem").replaceChildren(...this.#head(problem, answer), this.#table());
    this.filter(filters);
    this.#regimes();
  }

  /** Make attempts pale that do not pass. */
  filter(filters) {
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
    this.#cells.get(traces[0])?.scrollIntoView({ block: "nearest", inline: "nearest" });
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
    const long = answer.question.length > 600;
    const question = el(
      "div",
      { class: "text asked", dir: "auto" },
      visible(answer.question),
    );
    const folded = el(
      "details",
      {},
      el("summary", { text: `question, ${counted(answer.question.length, "character")}` }),
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
      long ? folded : question,
      el("p", { class: "note" }, "reference: ", el("bdi", {}, visible(answer.reference))),
    ];
  }

  #table() {
    const longest = Math.max(0, ...this.#columns.map(({ rows }) => rows.length));
    const head = this.#columns.map((column) => {
      const right = column.rows.filter((row) => row.grade === "right").length;
      const where = USUAL.includes(column.folder)
        ? null
        : el("span", { class: "note", text: plain(column.folder) });
      return el(
        "th",
        { scope: "col" },
        el("span", {}, visible(column.operator)),
        where,
        el("span", { class: "note", text: `right ${right} of ${column.rows.length}` }),
      );
    });
    const lines = [];
    for (let i = 0; i < longest; i++) {
      const cells = this.#columns.map(({ rows }) =>
        el("td", {}, rows[i] ? this.#cell(rows[i]) : null),
      );
      lines.push(el("tr", {}, el("th", { scope: "row", text: String(i) }), cells));
    }
    const table = el(
      "table",
      {},
      el("thead", {}, el("tr", {}, el("th", { text: "#" }), head)),
      el("tbody", {}, lines),
    );
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

  #cell(row) {
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

  async #regimes() {
    const asked = this.rows;
    const names = asked.filter(failed).map((row) => row.trace);
    for (let i = 0; i < names.length; i += AT_ONCE) {
      const given = { traces: names.slice(i, i + AT_ONCE).join(",") };
      const told = await this.#source.ask("regimes", given).catch(() => ({}));
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

function columnsOf(rows) {
  const columns = new Map();
  for (const row of rows) {
    const name = `${row.folder}\n${row.operator}`;
    if (!columns.has(name))
      columns.set(name, { folder: row.folder, operator: row.operator, rows: [] });
    columns.get(name).rows.push(row);
  }
  return [...columns.values()];
}
