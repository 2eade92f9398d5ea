// One attempt, or two of them beside each other.

import { byId, counted, el, plain, short, visible } from "./dom.js";
import { confidence, curve, pointCurves } from "./curves.js";
import { inspect } from "./inspector.js";
import { replaced } from "./source.js";
import { GRADES, LEVELS, STATISTICS, scaleOf, titled } from "./statistics.js";
import { TokenText, firstDifference } from "./tokens.js";

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
    if (STATISTICS[by]) this.by = by;
    const names = [versus, trace].filter(Boolean);
    const ask = (name, i) => this.#known(name) ?? this.#source.ask("trace", { trace: name, by: this.by }, `trace ${i}`);
    const found = await Promise.all(names.map(ask));
    if (round !== this.#round) return;
    this.#traces = found;
    this.token = Math.min(Number(token) || 0, Math.max(...found.map((t) => t.tokens.length)) - 1);
    this.#draw(token !== "");
    await this.#rest(round);
  }

  /** Shade by another statistic. */
  async shade(by) {
    this.by = by;
    await this.#load([by]);
    this.#shade();
    this.#curves();
    this.point(this.token);
  }

  /** Step to the next statistic that the attempt has. */
  next(by) {
    const names = Object.keys(STATISTICS).filter((name) => this.#traces.some((t) => t.stats[name]));
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
    const only = { junction: trace.junction, fork: this.#fork() }[kind];
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

  #fork() {
    return this.#traces.length > 1 ? firstDifference(...this.#traces) : null;
  }

  #draw(scroll) {
    this.#texts = this.#traces.map((trace) => new TokenText(trace, (i) => this.point(i)));
    const sides = this.#traces.map((trace, i) => el("article", { class: "attempt-text" }, this.#head(trace, i), this.#texts[i].node));
    byId("trace").replaceChildren(
      this.#tools(),
      el("div", { class: `sides sides-${sides.length}` }, sides),
      el("div", { id: "legend" }),
      el("div", { id: "curves" }),
      el("div", { id: "inspector", "aria-live": "off" }),
    );
    for (const text of this.#texts) {
      text.text.addEventListener("click", () => this.#changed({ token: String(this.token) }));
      text.differ(this.#fork());
    }
    this.#shade();
    this.#curves();
    this.point(this.token, scroll);
  }

  #tools() {
    const trace = this.#traces.at(-1);
    const pick = el("select", { id: "by", on: { change: (event) => this.#changed({ by: event.target.value }) } },
      Object.keys(STATISTICS).map((name) => el("option", { value: name, text: titled(name) })));
    pick.value = this.by;
    const two = this.#traces.length > 1;
    const retry = trace.retry && !two ? el("button", { type: "button", id: "compare", text: "compare with its retry (d)", on: { click: () => this.#changed({ versus: trace.retry }) } }) : null;
    const alone = two ? el("button", { type: "button", id: "alone", text: "one attempt (x)", on: { click: () => this.#changed({ versus: "" }) } }) : null;
    const pin = two ? null : el("button", { type: "button", id: "pin", text: "compare with another (c)", on: { click: () => this.#changed({ pin: trace.trace }) } });
    return el("div", { class: "tools" }, el("label", {}, el("span", { text: "colour by" }), pick), retry, pin, alone, two ? this.#said() : null);
  }

  // Where two attempts part, in words.
  #said() {
    const [one, other] = this.#traces;
    const fork = this.#fork();
    if (fork === null) return el("p", { id: "difference", text: "Both attempts have the same tokens." });
    const wrote = (trace) => [`${plain(trace.operator)} `, fork < trace.tokens.length ? el("code", {}, "“", el("bdi", {}, visible(trace.pieces[fork] ?? `id ${trace.tokens[fork]}`)), "”") : "nothing"];
    const keys = one.key.join() === other.key.join() ? "The keys are the same." : "The keys differ, so the draws do, too.";
    const prompts = one.prompt.join() === other.prompt.join() ? "" : " The prompts differ.";
    return el("p", { id: "difference" }, `Equal for ${counted(fork, "token")}, then `, wrote(one), ", ", wrote(other), `. ${keys}${prompts}`);
  }

  #head(trace, which) {
    const grade = GRADES[trace.grade] ?? { sign: "·", title: plain(trace.grade) };
    const facts = [counted(trace.tokens.length, "token"), `temperature ${short(trace.temperature)}`,
      trace.alpha === null ? "" : `α ${short(trace.alpha)}`,
      trace.forced.some(Boolean) ? `${trace.forced.filter(Boolean).length} forced` : "",
      trace.rewound ? `↶ ${trace.rewound} rewound and drawn again` : "",
      ...Object.entries(trace.more).map(([name, v]) => `${name} ${typeof v === "number" ? short(v, 4) : plain(v)}`)];
    const side = this.#traces.length > 1 ? el("strong", { class: `side side-${which}`, text: `${which + 1}` }) : null;
    return el("header", { "data-grade": trace.grade },
      el("h3", {}, side, el("bdi", {}, visible(trace.operator)), ` ${trace.attempt}`),
      el("p", {}, el("span", { class: "grade", text: `${grade.sign} ${grade.title}` }), " answer: ", el("bdi", {}, visible(trace.answer ?? "none"))),
      el("p", { class: "note", text: facts.filter(Boolean).join(" · ") }));
  }

  #shade() {
    const lists = this.#traces.map((t) => t.stats[this.by] ?? []);
    const scale = scaleOf(this.by, lists);
    this.#texts.forEach((text, i) => text.shade(lists[i], scale));
    const steps = Array.from({ length: LEVELS }, (_, level) => el("span", { class: "t", "data-level": level }, " "));
    const [first, last] = scale?.low ? [scale.most, scale.least] : [scale?.least, scale?.most];
    const any = (name) => this.#traces.some((t) => t[name].some(Boolean));
    const marks = [
      this.#traces.some((t) => t.junction !== null) ? "▼ junction" : "",
      any("fired") ? "◆ fired" : "",
      any("forced") ? "⏸ pause, then forced tokens" : "",
      this.#fork() === null ? "" : "≠ first difference",
    ].filter(Boolean).join("   ");
    byId("legend").replaceChildren(
      scale ? el("span", { class: "scale" }, short(first), el("span", { class: "steps" }, steps), short(last)) : el("span", { class: "note", text: `This attempt has no ${titled(this.by)}.` }),
      el("span", { class: "note", text: STATISTICS[this.by].meaning }), el("span", { class: "note", text: marks }));
    if (byId("by")) byId("by").value = this.by;
  }

  #curves() {
    const length = Math.max(...this.#traces.map((t) => t.tokens.length));
    const marks = this.#marks();
    const point = (i) => this.point(i);
    const names = [this.by, ...Object.keys(STATISTICS).filter((name) => name !== this.by)];
    const drawn = names.map((name) => {
      const series = this.#traces.map((t) => t.stats[name] ?? []);
      const chosen = name === this.by;
      return curve({ name, series, length, marks, height: chosen ? LARGE : SMALL, point, chosen, choose: () => this.#changed({ by: name }) });
    });
    drawn.splice(1, 0, confidence(this.#traces, length, marks, LARGE, point));
    byId("curves").replaceChildren(...drawn.filter(Boolean));
  }

  #marks() {
    const trace = this.#traces.at(-1);
    const marks = trace.fired.flatMap((on, i) => (on ? [[i, "fired"]] : []));
    trace.forced.forEach((on, i) => {
      if (!on) return;
      const last = marks.at(-1);
      if (last?.[1] === "forced" && last[2] === i - 1) last[2] = i;
      else marks.push([i, "forced", i]);
    });
    if (trace.junction !== null) marks.push([trace.junction, "junction"]);
    const fork = this.#fork();
    return fork === null ? marks : [...marks, [fork, "fork"]];
  }

  // The statistics that did not come with the text.
  async #rest(round) {
    const names = Object.keys(STATISTICS);
    for (let i = 0; i < names.length; i += AT_ONCE) {
      await this.#load(names.slice(i, i + AT_ONCE));
      if (round !== this.#round) return;
      this.#shade();
      this.#curves();
      this.point(this.token);
    }
  }

  async #load(names) {
    await Promise.all(this.#traces.map(async (trace) => {
      const lacking = names.filter((name) => trace.stats[name] === undefined);
      if (!lacking.length) return;
      const given = { trace: trace.trace, names: lacking.join(",") };
      const found = await this.#source.ask("statistics", given, `statistics ${trace.trace} ${lacking}`).catch((error) => {
        if (replaced(error)) return {};
        throw error;
      });
      Object.assign(trace.stats, found);
    }));
  }
}
