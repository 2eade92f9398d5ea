// Where answers come from: the local server. An exported file has its own source.

/** Asks the local server; a newer question of a kind ends the older one. */
export class ServerSource {
  #asked = new Map();

  async ask(kind, given = {}, slot = kind) {
    this.#asked.get(slot)?.abort();
    const control = new AbortController();
    this.#asked.set(slot, control);
    const known = Object.entries(given).filter(
      ([, value]) => value !== "" && value !== null && value !== undefined,
    );
    const response = await fetch(`api/${kind}?${new URLSearchParams(known)}`, {
      signal: control.signal,
    }).catch((error) => {
      throw replaced(error) ? error : new Error("scripts/view.py does not answer");
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

/** True for the error of a question that a newer one has replaced. */
export function replaced(error) {
  return error?.name === "AbortError";
}
