// Curves of statistics under a text, on one axis of tokens.

import { el, short, svg } from "./dom.js";
import { titled } from "./statistics.js";

const WIDTH = 1000; // units of a drawing, whatever its width on the screen

/**
 * A curve of one statistic, of one or two attempts.
 * `series` holds lists of values, `length` the tokens of the axis, `marks` pairs of a
 * token and a class, `point(i)` hears the token under the pointer.
 */
export function curve({ name, series, length, marks = [], height, point, chosen, choose }) {
  const known = series.flat().filter((v) => v !== null && v !== undefined);
  if (!known.length) return null;
  const least = known.reduce((a, b) => Math.min(a, b));
  const most = known.reduce((a, b) => Math.max(a, b));
  const drawn = frame(length, height, marks, point);
  series.forEach((values, i) => {
    drawn.append(
      svg("path", {
        class: `line line-${i}`,
        d: path(values, length, least, most, height),
      }),
    );
  });
  const title = el("button", {
    type: "button",
    class: "pick",
    "aria-pressed": String(chosen),
    text: titled(name),
    on: { click: choose },
  });
  const ends = el("span", { class: "note", text: `${short(least)} to ${short(most)}` });
  return el(
    "figure",
    { class: chosen ? "curve large" : "curve", "data-name": name },
    el("figcaption", {}, title, ends),
    drawn,
  );
}

/** Probability of the own and of the right answer at the cuts; null without a probe. */
export function confidence(traces, length, marks, height, point) {
  const drawn = frame(length, height, marks, point);
  const names = [];
  traces.forEach((trace, which) => {
    for (const [answer, title] of [
      ["own", "its own answer"],
      ["gold", "the right answer"],
    ]) {
      const values = trace[`${answer}_probability`];
      if (!values?.length) continue;
      const at = values.map((v, i) => [v, trace.cuts[i]]).filter(([v]) => v !== null);
      const spots = at.map(([v, cut]) => [x(cut, length), y(v, 0, 1, height)]);
      drawn.append(
        svg("polyline", {
          class: `line line-${which} ${answer}`,
          points: spots.map((s) => s.join(",")).join(" "),
        }),
      );
      for (const [left, top] of spots) {
        drawn.append(
          svg("circle", {
            class: `spot spot-${which} ${answer}`,
            cx: left,
            cy: top,
            r: answer === "own" ? 4 : 2.5,
          }),
        );
      }
      names.push(
        `${title}${traces.length > 1 ? ` (${which + 1})` : ""}: ${at.map(([v]) => short(v, 2)).join(", ")}`,
      );
    }
  });
  if (!names.length) return null;
  const title = el("strong", { text: "confidence at the cuts: probability of" });
  return el(
    "figure",
    { class: "curve large confidence" },
    el(
      "figcaption",
      {},
      title,
      names.map((n) => el("span", { class: "note", text: n })),
    ),
    drawn,
  );
}

/** Move the line of the present token in all drawings. */
export function pointCurves(room, i, length) {
  for (const line of room.querySelectorAll(".now")) {
    line.setAttribute("x1", x(i, length));
    line.setAttribute("x2", x(i, length));
  }
}

function frame(length, height, marks, point) {
  const drawn = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": "curve over the tokens",
  });
  for (const [i, kind, to = i] of marks) {
    const width = Math.max(2, x(to, length) - x(i, length));
    drawn.append(
      svg("rect", { class: `mark ${kind}`, x: x(i, length) - 1, y: 0, width, height }),
    );
  }
  drawn.append(svg("line", { class: "now", x1: -9, x2: -9, y1: 0, y2: height }));
  const hear = (event) => {
    const box = drawn.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    point(Math.max(0, Math.min(length - 1, Math.round(share * (length - 1)))));
  };
  drawn.addEventListener("pointermove", hear);
  drawn.addEventListener("click", hear);
  return drawn;
}

function x(i, length) {
  return length > 1 ? (i / (length - 1)) * WIDTH : WIDTH / 2;
}

function y(value, least, most, height) {
  const share = most > least ? (value - least) / (most - least) : 0.5;
  return height - 3 - share * (height - 6);
}

// Of a long row the least and the most of each unit of width are drawn.
function path(values, length, least, most, height) {
  const at = (i, v) => `${x(i, length).toFixed(1)} ${y(v, least, most, height).toFixed(1)}`;
  const each = Math.ceil(values.length / WIDTH);
  let line = "";
  let gap = true;
  for (let i = 0; i < values.length; i += each) {
    const some = values.slice(i, i + each).filter((v) => v !== null && v !== undefined);
    if (!some.length) {
      gap = true;
      continue;
    }
    for (const v of each > 1 ? [Math.min(...some), Math.max(...some)] : some) {
      line += `${gap ? "M" : "L"}${at(i, v)}`;
      gap = false;
    }
  }
  return line;
}
