// The source of an exported file: everything stands in the file itself.

import { byId } from "./dom.js";

const SHARE = (row) => (row.rollouts ? row.failed / row.rollouts : -1);
const SORTS = {
  run: (a, b) => a.problem - b.problem,
  failed: (a, b) => SHARE(b) - SHARE(a) || a.problem - b.problem,
  solved: (a, b) => SHARE(a) - SHARE(b) || a.problem - b.problem,
  attempts: (a, b) => b.attempts - a.attempts || a.problem - b.problem,
  name: (a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)),
};

/** The source of this file; null on a page of the server. */
export function openSource() {
  const held = byId("data");
  return held ? new FileSource(JSON.parse(held.textContent)) : null;
}

class FileSource {
  #data;
  partial = true; // of an operator's attempts

  constructor(data) {
    this.#data = data;
  }

  async ask(kind, given = {}) {
    const { run, attempts, traces, regimes } = this.#data;
    if (kind === "run") return run;
    if (kind === "problems") return this.#problems(given);
    if (kind === "regimes")
      return Object.fromEntries(
        given.traces.filter((t) => regimes[t]).map((t) => [t, regimes[t]]),
      );
    if (kind === "attempts") {
      const found = attempts[`${given.task}\n${given.name}`];
      if (!found) throw new Error("this problem is not in the file");
      const own = (row) => !given.folder || row.folder === given.folder;
      return {
        ...found,
        columns: found.columns.filter(own),
        rows: found.rows.filter(own),
      };
    }
    const trace = traces[given.trace];
    if (!trace) throw new Error("this attempt is not in the file");
    return kind === "trace" ? trace : trace.stats;
  }

  #problems(given) {
    const rows = this.#data.problems.filter((row) => this.#passes(row, given));
    rows.sort(SORTS[given.order || "run"]);
    const first = given.offset ?? 0;
    return { rows: rows.slice(first, first + given.limit), total: rows.length, scans: {} };
  }

  #passes(problem, given) {
    if (given.task && problem.task !== given.task) return false;
    if (given.label && problem.label !== given.label) return false;
    if (given.failed) {
      const span = given.failed.replaceAll(" ", "").match(/^(\d{1,6})(?:(-)(\d{1,6})?)?$/);
      if (!span) throw new Error(`failed=${given.failed}: write 3, 2-5 or 2-`);
      const most = span[2] ? Number(span[3] ?? Infinity) : Number(span[1]);
      if (problem.failed < Number(span[1]) || problem.failed > most) return false;
    }
    const found = this.#data.attempts[`${problem.task}\n${problem.name}`];
    return found.rows.some((row) => this.#matches(row, found.question, given));
  }

  #matches(row, question, given) {
    const failed = row.grade === "wrong" || row.grade === "unparsed";
    const wanted = given.text?.toLowerCase() ?? "";
    const text = this.#data.traces[row.trace]?.text ?? "";
    return (
      (!given.folder || row.folder === given.folder) &&
      (!given.operator || row.operator === given.operator) &&
      (!given.grade || row.grade === given.grade || (given.grade === "failed" && failed)) &&
      (!given.regime || this.#data.regimes[row.trace] === given.regime) &&
      (!given.truncated || row.truncated) &&
      (!given.fired || row.fired) &&
      (!wanted ||
        text.toLowerCase().includes(wanted) ||
        question.toLowerCase().includes(wanted))
    );
  }
}
