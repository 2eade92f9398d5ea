// The permanent link: what is chosen stands in the address, behind the #.

const CHOICES = [
  "folder",
  "task",
  "label",
  "grade",
  "operator",
  "regime",
  "text",
  "failed",
  "truncated",
  "fired",
  "order",
  "of",
  "name",
  "trace",
  "versus",
  "by",
  "token",
];
export const FILTERS = CHOICES.slice(0, 11);

/** The choices of the address, texts by name. */
export function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(CHOICES.map((name) => [name, given.get(name) ?? ""]));
}

/** Write choices to the address; a step of the history if `step`. */
export function writeLink(choices, step) {
  const known = CHOICES.filter(
    (name) => choices[name] !== "" && choices[name] !== undefined,
  );
  const hash = `#${new URLSearchParams(known.map((name) => [name, choices[name]]))}`;
  if (hash === location.hash) return;
  history[step ? "pushState" : "replaceState"](null, "", hash);
}
