// Keys, and what they do.

export const KEYS = [
  ["j, k", "next and previous problem"],
  ["n, p", "next and previous attempt"],
  ["→, ←", "next and previous token; with Shift ten"],
  ["g", "to the junction"],
  ["f", "to the next token on which the detector fired"],
  ["o", "to the next forced token"],
  ["e", "to the first difference of two attempts"],
  ["s, S", "colour by the next and previous statistic"],
  ["d", "compare with the retry of the same number"],
  ["c", "compare with the attempt that is chosen next"],
  ["x", "one attempt again"],
  ["/", "search the texts"],
  ["t", "light or dark"],
  ["Esc", "back to the list"],
  ["?", "these keys"],
];

/** Call `does.NAME` for keys that are pressed outside of fields. */
export function listen(does) {
  const named = {
    j: () => does.problem(1),
    k: () => does.problem(-1),
    n: () => does.attempt(1),
    p: () => does.attempt(-1),
    g: () => does.jump("junction"),
    f: () => does.jump("fired"),
    o: () => does.jump("forced"),
    e: () => does.jump("fork"),
    s: () => does.statistic(1),
    S: () => does.statistic(-1),
    d: does.compare,
    c: does.pin,
    x: does.alone,
    "/": does.search,
    t: does.theme,
    "?": does.help,
    Escape: does.back,
  };
  addEventListener("keydown", (event) => {
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      document.querySelector("dialog[open]")
    )
      return;
    const field = event.target.closest?.("input, select, textarea");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    const steps = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const act = steps
      ? () => does.token(steps * (event.shiftKey ? 10 : 1))
      : named[event.key];
    if (!act || (steps && event.target.closest?.(".wide"))) return;
    event.preventDefault();
    act();
  });
}
