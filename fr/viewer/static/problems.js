// The list of problems: only the rows on the screen exist, whatever the length.

import { byId, counted, el, plain, visible } from "./dom.js";
import { LABELS } from "./statistics.js";

const PAGE = 100; // rows of one question to the source
const TALLEST = 8e6; // pixels of an element that browsers can still place exactly
const AGAIN = 400; // ms until a search that goes on is asked for again

export class ProblemList {
  #source;
  #choose;
  #filters = {};
  #pages = new Map();
  #total = 0;
  #round = 0;
  #chosen = "";
  #at = 0;

  /** `choose(row)` hears the problem that was chosen. */
  constructor(source, choose) {
    this.#source = source;
    this.#choose = choose;
    this.list = byId("list");
    this.room = el("div", { class: "room" });
    this.list.append(this.room);
    this.list.addEventListener("scroll", () => requestAnimationFrame(() => this.#draw()));
    new ResizeObserver(() => this.#draw()).observe(this.list);
  }

  /** Show the problems that pass other filters. */
  async filter(filters) {
    const round = ++this.#round;
    this.#filters = filters;
    for (;;) {
      const answer = await this.#source.ask("problems", {
        ...filters,
        offset: 0,
        limit: PAGE,
      });
      if (round !== this.#round) return;
      this.#pages = new Map([[0, answer.rows]]);
      this.#total = answer.total;
      this.list.scrollTop = 0;
      this.#at = 0;
      this.#count(answer);
      this.#draw();
      if (!Object.keys(answer.scans).length) return;
      await new Promise((wake) => setTimeout(wake, AGAIN));
      if (round !== this.#round) return;
    }
  }

  /** Mark the chosen problem. */
  mark(row) {
    this.#chosen = key(row);
    this.#draw();
  }

  /** Choose the next problem, or the one before. */
  async step(by) {
    if (!this.#total) return;
    const here = [...this.#pages].flatMap(([page, rows]) =>
      rows.map((row, i) => [page * PAGE + i, row]),
    );
    const found = here.find(([, row]) => key(row) === this.#chosen);
    const to = found ? Math.min(this.#total - 1, Math.max(0, found[0] + by)) : this.#at;
    const row = await this.#row(to);
    if (!row) return;
    this.#scrollTo(to);
    this.#choose(row);
  }

  #count({ total, scans }) {
    const told = Object.entries(scans).map(
      ([name, { done, total: all }]) => `${name}: ${done} of ${all} shards read`,
    );
    byId("count").textContent = [counted(total, "problem"), ...told].join(" · ");
  }

  get #height() {
    const rows = parseFloat(getComputedStyle(this.list).getPropertyValue("--row"));
    return rows * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  // Above TALLEST the scroll bar moves through the rows in larger steps.
  get #stretch() {
    return Math.max(1, (this.#total * this.#height) / TALLEST);
  }

  #scrollTo(row) {
    const [top, height] = [(row * this.#height) / this.#stretch, this.list.clientHeight];
    const below = top + this.#height > this.list.scrollTop + height;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (below) this.list.scrollTop = top + this.#height - height;
  }

  async #row(number) {
    const page = Math.floor(number / PAGE);
    if (!this.#pages.has(page)) {
      const asked = { ...this.#filters, offset: page * PAGE, limit: PAGE };
      const round = this.#round;
      this.#pages.set(page, []);
      const answer = await this.#source.ask("problems", asked, `problems ${page}`);
      if (round !== this.#round) return undefined;
      this.#pages.set(page, answer.rows);
      this.#draw();
    }
    return this.#pages.get(page)[number - page * PAGE];
  }

  #draw() {
    const height = this.#height;
    const stretch = this.#stretch;
    const full = (this.#total * height) / stretch;
    const first = Math.max(0, Math.floor((this.list.scrollTop * stretch) / height) - 2);
    const count = Math.ceil(this.list.clientHeight / height) + 4;
    const last = Math.min(this.#total, first + count);
    this.#at = Math.min(
      this.#total - 1,
      Math.ceil((this.list.scrollTop * stretch) / height),
    );
    this.room.style.setProperty("height", `${full}px`);
    const rows = [];
    const shift = this.list.scrollTop - this.list.scrollTop * stretch;
    for (let i = first; i < last; i++) {
      const known = this.#pages.get(Math.floor(i / PAGE))?.[i % PAGE];
      if (!known) this.#row(i).catch(() => {});
      const node = known ? this.#entry(known, i) : el("div", { class: "entry" });
      node.style.setProperty(
        "top",
        `${Math.round(i * height + (stretch > 1 ? shift : 0))}px`,
      );
      rows.push(node);
    }
    this.room.replaceChildren(...rows);
  }

  #entry(row, number) {
    const chosen = key(row) === this.#chosen;
    const share = row.rollouts ? row.failed / row.rollouts : 0;
    const meter = el("span", { class: "meter", "aria-hidden": "true" }, el("span"));
    meter.firstChild.style.setProperty("width", `${100 * share}%`);
    const failed = row.rollouts
      ? `failed ${row.failed} of ${row.rollouts}`
      : counted(row.attempts, "attempt");
    const rescued = row.tried ? `operators right ${row.rescued} of ${row.tried}` : "";
    return el(
      "div",
      {
        class: "entry",
        role: "option",
        "aria-selected": String(chosen),
        "aria-posinset": number + 1,
        "aria-setsize": this.#total,
        title: plain(row.name),
        on: { click: () => this.#choose(row) },
      },
      el(
        "span",
        { class: "first" },
        el("bdi", { class: "question" }, visible(row.question.replace(/\s+/g, " ") || row.name)),
        row.label ? el("span", { class: "tag", text: LABELS[row.label] }) : null,
      ),
      el(
        "span",
        { class: "facts" },
        meter,
        el("span", { text: failed }),
        el("span", { text: rescued }),
      ),
    );
  }
}

/** Task and name of a problem in one text. */
function key(row) {
  return `${row.task}\n${row.name}`;
}
