// The text of an attempt, token by token, with its shades and its marks.

import { counted, el, plain, visible } from "./dom.js";
import { levelOf } from "./statistics.js";

const AT_ONCE = 6000; // tokens that are drawn before one asks for more
const LONGEST = 200_000; // characters of a text without tokens

/** One attempt as text; `point(i)` hears the token under the pointer. */
export class TokenText {
  #spans = [];
  #levels = [];
  #end = 0;
  #fork = null;

  constructor(trace, point) {
    this.trace = trace;
    this.text = el("div", {
      class: "text",
      dir: "auto",
      tabindex: "0",
      role: "group",
      "aria-label": "text of the attempt",
    });
    const hear = (event) => {
      const place = event.target.closest?.(".t")?.dataset.i;
      if (place !== undefined) point(Number(place));
    };
    this.text.addEventListener("pointerover", hear);
    this.text.addEventListener("click", hear);
    this.more = el("button", {
      type: "button",
      class: "more",
      on: { click: () => this.#draw() },
    });
    this.node = el("div", {}, this.#before(), this.text, this.more);
    if (trace.pieces.length || !trace.tokens.length) this.#draw();
    else this.#whole();
  }

  /** Shade the tokens by a statistic. */
  shade(values, scale) {
    this.#levels = this.trace.tokens.map((_, i) => levelOf(values?.[i], scale));
    this.#spans.forEach((span, i) => this.#shadeOne(span, i));
  }

  /** Mark the first token that differs from another attempt; null: nothing is compared. */
  differ(fork) {
    this.#fork = fork;
    this.#spans.forEach((span, i) => this.#forkOne(span, i));
  }

  /** Mark one token as the present one. */
  point(i, scroll) {
    this.text.querySelector(".here")?.classList.remove("here");
    while (i >= this.#end && this.#end < this.trace.pieces.length) this.#draw();
    const span = this.#spans[i];
    span?.classList.add("here");
    if (scroll) span?.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const { pieces } = this.trace;
    const last = Math.min(pieces.length, this.#end + AT_ONCE);
    const fresh = document.createDocumentFragment();
    for (let i = this.#end; i < last; i++) {
      const span = this.#token(i);
      this.#spans.push(span);
      this.#shadeOne(span, i);
      this.#forkOne(span, i);
      fresh.append(span);
    }
    this.#end = last;
    if (last === pieces.length) fresh.append(this.#after());
    this.text.append(fresh);
    this.more.hidden = last === pieces.length;
    this.more.textContent = `show more: ${counted(pieces.length - last, "token")}`;
  }

  #token(i) {
    const { forced, fired, junction, pieces } = this.trace;
    const begins = forced[i] && !forced[i - 1];
    const names = [
      "t",
      forced[i] && "forced",
      begins && "pause",
      fired[i] && "fired",
      i === junction && "junction",
    ];
    const parts = pieces[i]
      .split("\n")
      .flatMap((part, line) =>
        line
          ? [el("span", { class: "line-end", text: "↵" }), "\n", ...visible(part)]
          : visible(part),
      );
    return el("span", { class: names.filter(Boolean).join(" "), "data-i": i }, parts);
  }

  #shadeOne(span, i) {
    span.dataset.level = this.#levels[i] ?? 0;
  }

  #forkOne(span, i) {
    span.classList.toggle("same", this.#fork !== null && i < this.#fork);
    span.classList.toggle("fork", i === this.#fork);
  }

  // A text without the pieces of its tokens, in one part.
  #whole() {
    const { text } = this.trace;
    this.text.append(...visible(text.slice(0, LONGEST)), this.#after());
    this.more.textContent = `show more: ${counted(text.length - LONGEST, "character")}`;
    this.more.hidden = text.length <= LONGEST;
    this.more.addEventListener("click", () => {
      this.text.replaceChildren(...visible(text), this.#after());
      this.more.hidden = true;
    });
  }

  #before() {
    const { no_pieces, prompt_text, read, text } = this.trace;
    const kept =
      read !== null && read.endsWith(text) ? read.slice(0, read.length - text.length) : "";
    const fold = (title, shown) =>
      el(
        "details",
        {},
        el("summary", { text: title }),
        el("div", { class: "text", dir: "auto" }, visible(shown)),
      );
    return [
      prompt_text
        ? fold(`prompt, ${counted(this.trace.prompt.length, "token")}`, prompt_text)
        : null,
      no_pieces
        ? el(
            "p",
            { class: "note" },
            `The text has no colours: ${plain(no_pieces)}. The curves have all tokens.`,
          )
        : null,
      kept
        ? el(
            "div",
            { class: "text kept", title: "given to the model; the grader reads it, too" },
            visible(kept),
          )
        : null,
    ];
  }

  #after() {
    const { truncated, budget } = this.trace;
    const spent = budget ? ` (at most ${budget} tokens)` : "";
    return el("span", {
      class: truncated ? "end cut" : "end",
      text: truncated ? `✂ truncated${spent}` : "■ end",
    });
  }
}

/** Index of the first token at which two attempts differ; null if they are equal. */
export function firstDifference(one, other) {
  const length = Math.min(one.tokens.length, other.tokens.length);
  for (let i = 0; i < length; i++) {
    if (one.tokens[i] !== other.tokens[i]) return i;
  }
  return one.tokens.length === other.tokens.length ? null : length;
}
