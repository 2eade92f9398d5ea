// Elements without markup: every text of a run becomes a text node.

// Characters that are not seen, or that change the order of others on the screen: all
// controls, formats, private and unassigned ones, all spaces but the plain one, fillers,
// and marks beyond the sixth on one character. What joins the parts of a picture stays.
const PICTURE = "\\p{Extended_Pictographic}";
const HIDDEN = new RegExp(
  [
    `(?!(?<=${PICTURE})\\ufe0f)`,
    `(?!(?<=[${PICTURE}\\p{Emoji_Modifier}\\ufe0f])\\u200d(?=${PICTURE}))`,
    "(?![\\t\\n ])[\\p{C}\\p{Z}\\p{Default_Ignorable_Code_Point}\\u2800\\u{16fe4}\\u{1d159}]",
    "|(?<marks>(?<=\\p{M}{6})\\p{M}+)",
  ].join(""),
  "gu",
);

/** The sign for a match of HIDDEN: ␛ for an escape, ⟨202E⟩ for others. */
function sign({ 0: found, groups }) {
  if (groups.marks) return `⟨+${[...found].length} marks⟩`;
  const code = found.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** A text with signs in place of its hidden characters. */
export function plain(text) {
  return pieces(String(text ?? ""), (shown) => shown).join("");
}

/** Nodes of a text; hidden characters become marked signs. */
export function visible(text) {
  return pieces(text, (shown) => el("span", { class: "hidden-sign", text: shown }));
}

// The parts of a text: those that are seen, and `made(sign)` of each hidden one.
function pieces(text, made) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) parts.push(text.slice(end, match.index));
    parts.push(made(sign(match)));
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}

/**
 * An element.
 * `class` and `text` are set, `on` holds listeners, other names are attributes; null,
 * false and undefined are left out. Children are nodes, texts or lists of them.
 */
export function el(tag, given = {}, ...children) {
  return fill(document.createElement(tag), given, children);
}

/** An element of a drawing. */
export function svg(tag, given = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), given, children);
}

function fill(node, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        node.addEventListener(event, listener);
      }
    } else node.setAttribute(name, value === true ? "" : plain(value));
  }
  node.append(
    ...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false),
  );
  return node;
}

/** A choice of a list. */
export function option(value, shown) {
  const made = el("option", { text: shown });
  made.value = value; // not as an attribute, where signs would stand for characters
  return made;
}

/** The element of the page with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A number in few characters. */
export function short(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 1e-3)
    return value.toExponential(1).replace("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** A count with its noun. */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
