// Light or dark: the system's choice until one is made here.

const NAME = "fr-theme";

/** The choice that was kept; storage may be closed to a file. */
function kept() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

function keep(choice) {
  try {
    if (choice) localStorage.setItem(NAME, choice);
    else localStorage.removeItem(NAME);
  } catch {
    // It holds for this page alone.
  }
}

/** Turn light to dark and back; the system's own choice is not kept, but followed. */
export function turnTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const root = document.documentElement;
  const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  if (next === system) delete root.dataset.theme;
  else root.dataset.theme = next;
  keep(next === system ? "" : next);
}

if (["light", "dark"].includes(kept())) document.documentElement.dataset.theme = kept();
