// The numbers of the present token.

import { byId, el, short, visible } from "./dom.js";
import { about, namesOf, titled } from "./statistics.js";

/** Show token `i` of one or two attempts. */
export function inspect(traces, i, by) {
  const room = byId("inspector");
  if (!room) return;
  room.replaceChildren(
    ...traces.map((trace, which) => one(trace, i, by, traces.length > 1 ? which + 1 : 0)),
  );
}

function one(trace, i, by, number) {
  const title = number
    ? el("strong", { class: `side side-${number - 1}`, text: `${number}` })
    : null;
  if (i >= trace.tokens.length) {
    return el(
      "div",
      { class: "numbers" },
      title,
      el("span", { class: "note", text: "has ended before this token" }),
    );
  }
  const piece = trace.pieces[i];
  const marks = [
    i === trace.junction ? "▼ junction" : "",
    trace.fired[i] ? "◆ the detector fired" : "",
    trace.forced[i] ? "forced: not drawn by the model" : "",
  ].filter(Boolean);
  const known = namesOf([trace]).filter(
    (name) => typeof trace.stats[name]?.[i] === "number",
  );
  known.sort((one, other) => (other === by) - (one === by));
  const numbers = known.map((name) =>
    el(
      "span",
      {
        class: name === by ? "number by" : "number",
        title: `${titled(name)}: ${about(name).meaning}`,
      },
      el("span", { class: "note", text: about(name).title }),
      el("b", { text: short(trace.stats[name][i], 4) }),
    ),
  );
  return el(
    "div",
    { class: "numbers" },
    el(
      "span",
      { class: "which" },
      title,
      `token ${i} of ${trace.tokens.length} `,
      piece === undefined ? null : el("code", {}, "“", el("bdi", {}, visible(piece)), "”"),
      el("span", { class: "note", text: ` id ${trace.tokens[i]}` }),
    ),
    marks.length ? el("span", { class: "marks", text: marks.join(" · ") }) : null,
    numbers,
    mostProbable(trace, i),
  );
}

/** The most probable tokens at place `i` with their probabilities, where they are kept. */
function mostProbable(trace, i) {
  const ids = trace.top?.tokens[i];
  if (!ids) return null;
  const words = ids.map((id, k) => {
    const word = trace.top.words[id] || `id ${id}`;
    const logp = trace.top.logp[i][k];
    return el(
      "span",
      { class: id === trace.tokens[i] ? "number by" : "number", title: `id ${id}` },
      el("code", {}, "“", el("bdi", {}, visible(word)), "”"),
      el("b", { text: logp === null ? "0 %" : `${short(100 * Math.exp(logp), 3)} %` }),
    );
  });
  return el(
    "span",
    { class: "alternatives" },
    el("span", { class: "note", text: "most probable: " }),
    words,
  );
}
