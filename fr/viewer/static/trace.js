// One attempt, or two of them beside each other.

import { confidence, curve, pointCurves } from "./curves.js";
import { byId, el } from "./dom.js";
import { forkOf, head, marksOf, showLegend, tools } from "./headings.js";
import { inspect } from "./inspector.js";
import { replaced } from "./source.js";
import { about, namesOf, scaleOf } from "./statistics.js";
import { TokenText } from "./tokens.js";

const AT_ONCE = 4; // statistics of one question, so that each answer is fast
const [LARGE, SMALL] = [120, 44]; // heights of curves

export class TraceView {
  #source;
  #changed;
  #traces = [];
  #texts = [];
  #round = 0;

  /** `changed(choices)` hears what was chosen in the view. */
  constructor(source, changed) {
    this.#source = source;
    this.#changed = changed;
    this.by = "entropy";
    this.token = 0;
  }

  /** The attempts that are shown: the chosen one, and the one it is compared with. */
  get traces() {
    return this.#traces;
  }

  /** Show an attempt; `versus` is compared with it. */
  async show({ trace, versus, by, token }) {
    const round = ++this.#round;
    if (about(by)) this.by = by;
    const names = [versus, trace].filter(Boolean);
    const ask = (name, i) =>
      this.#known(name) ??
      this.#source.ask("trace", { trace: name, by: this.by }, `trace ${i}`);
    const found = await Promise.all(names.map(ask));
    if (round !== this.#round) return;
    this.#traces = found;
    this.token = Math.min(
      Number(token) || 0,
      Math.max(...found.map((t) => t.tokens.length)) - 1,
    );
    this.#draw(token !== "");
    await this.#rest(round);
  }

  /** Shade by another statistic. */
  async shade(by) {
    if (!about(by)) return;
    this.by = by;
    await this.#load([by]);
    this.#shade();
    this.#curves();
    this.point(this.token);
  }

  /** Step to the next statistic that the attempt has. */
  next(by) {
    const names = namesOf(this.#traces).filter((name) =>
      this.#traces.some((t) => t.stats[name]),
    );
    this.#changed({ by: names.at((names.indexOf(this.by) + by) % names.length) });
  }

  /** Make a token the present one. */
  point(i, scroll = false) {
    const last = Math.max(...this.#traces.map((t) => t.tokens.length)) - 1;
    this.token = Math.max(0, Math.min(last, i));
    for (const text of this.#texts) text.point(this.token, scroll);
    pointCurves(byId("trace"), this.token, last + 1);
    inspect(this.#traces, this.token, this.by);
  }

  /** The next token of a kind: `fired`, `forced`, `junction` or `fork`. */
  jump(kind) {
    const trace = this.#traces.at(-1);
    const flags = { fired: trace.fired, forced: trace.forced }[kind];
    const only = { junction: trace.junction, fork: forkOf(this.#traces) }[kind];
    const after = flags ? flags.findIndex((on, i) => on && i > this.token) : only;
    const to = flags && after < 0 ? flags.indexOf(true) : after;
    if (to !== null && to !== undefined && to >= 0) this.#choose(to);
  }

  #choose(i) {
    this.point(i, true);
    this.#changed({ token: String(this.token) });
  }

  #known(name) {
    return this.#traces.find((t) => t.trace === name);
  }

  #draw(scroll) {
    this.#texts = this.#traces.map((trace) => new TokenText(trace, (i) => this.point(i)));
    const sides = this.#traces.map((trace, i) =>
      el(
        "article",
        { class: "attempt-text" },
        head(trace, i, this.#traces.length > 1),
        this.#texts[i].node,
      ),
    );
    byId("trace").replaceChildren(
      tools(this.#traces, this.by, this.#changed),
      el("div", { class: `sides sides-${sides.length}` }, sides),
      el("div", { id: "legend" }),
      el("div", { id: "curves" }),
      el("div", { id: "inspector", "aria-live": "off" }),
    );
    for (const text of this.#texts) {
      text.text.addEventListener("click", () =>
        this.#changed({ token: String(this.token) }),
      );
      text.differ(forkOf(this.#traces));
    }
    this.#shade();
    this.#curves();
    this.point(this.token, scroll);
  }

  #shade() {
    const lists = this.#traces.map((t) => t.stats[this.by] ?? []);
    const scale = scaleOf(this.by, lists);
    this.#texts.forEach((text, i) => text.shade(lists[i], scale));
    showLegend(this.#traces, this.by, scale);
    if (byId("by")) byId("by").value = this.by;
  }

  #curves() {
    const length = Math.max(...this.#traces.map((t) => t.tokens.length));
    const marks = marksOf(this.#traces);
    const point = (i) => this.point(i);
    const others = namesOf(this.#traces).filter((name) => name !== this.by);
    const names = [this.by, ...others];
    const drawn = names.map((name) => {
      const series = this.#traces.map((t) => t.stats[name] ?? []);
      const chosen = name === this.by;
      return curve({
        name,
        series,
        length,
        marks,
        height: chosen ? LARGE : SMALL,
        point,
        chosen,
        choose: () => this.#changed({ by: name }),
      });
    });
    drawn.splice(1, 0, confidence(this.#traces, length, marks, LARGE, point));
    byId("curves").replaceChildren(...drawn.filter(Boolean));
  }

  // The statistics that did not come with the text.
  async #rest(round) {
    const names = namesOf(this.#traces);
    for (let i = 0; i < names.length; i += AT_ONCE) {
      await this.#load(names.slice(i, i + AT_ONCE));
      if (round !== this.#round) return;
      this.#shade();
      this.#curves();
      this.point(this.token);
    }
  }

  async #load(names) {
    await Promise.all(
      this.#traces.map(async (trace) => {
        const lacking = names.filter((name) => trace.stats[name] === undefined);
        if (!lacking.length) return;
        const given = { trace: trace.trace, names: lacking.join(",") };
        const found = await this.#source
          .ask("statistics", given, `statistics ${trace.trace} ${lacking}`)
          .catch((error) => {
            if (replaced(error)) return {};
            throw error;
          });
        Object.assign(trace.stats, found);
      }),
    );
  }
}
