// Elements without markup: every text of a run becomes a text node.

// Characters that are not seen, or that change the order of others on the screen.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** The sign that stands for a hidden character: ␛ for an escape, ⟨202E⟩ for others. */
function sign(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `⟨${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** A text with signs in place of its hidden characters. */
export function plain(text) {
  return String(text ?? "").replace(HIDDEN, sign);
}

/** Nodes of a text; hidden characters become marked signs. */
export function visible(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) nodes.push(text.slice(end, match.index));
    nodes.push(el("span", { class: "hidden-sign", text: sign(match[0]) }));
    end = match.index + match[0].length;
  }
  if (end < text.length) nodes.push(text.slice(end));
  return nodes;
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
