// SPDX-License-Identifier: Apache-2.0
// Chips that complete the prompt with words that the checkpoint knows.

const MAX_CHIPS = 6;
const LONGEST_WORD = 100; // characters: to look for the beginning of longer ones would stop the page
const JOINING = new Set(["", "a", "an", "and", "with", "the"]);

/** `host` shows the chips below `input`, the text field of the prompt. */
export class Suggestions {
  #host;
  #input;
  #words = { things: [], colours: [], places: [] };

  constructor(host, input) {
    this.#host = host;
    this.#input = input;
    input.addEventListener("input", () => this.update());
    host.addEventListener("click", ({ target }) => this.#take(target.closest("button")));
  }

  describe({ suggestions }) {
    for (const kind of Object.keys(this.#words)) this.#words[kind] = suggestions?.[kind] ?? [];
    this.update();
  }

  /** Show what fits the prompt. */
  update() {
    const chips = nextOf(this.#input.value, this.#words).slice(0, MAX_CHIPS);
    this.#host.hidden = !Object.values(this.#words).some((words) => words.length);
    this.#host.replaceChildren(
      ...chips.map(({ text, prompt }) => {
        const chip = document.createElement("button");
        Object.assign(chip, { type: "button", className: "chip", textContent: text }).dataset.prompt = prompt;
        return chip;
      }),
    );
  }

  #take(chip) {
    if (!chip) return;
    const hadFocus = document.activeElement === chip;
    this.#input.value = chip.dataset.prompt;
    this.#input.dispatchEvent(new Event("input", { bubbles: true }));
    // A keyboard stays on the chips, so that several can be taken; a finger opens no on-screen keyboard.
    if (hadFocus) this.#host.querySelector("button")?.focus();
  }
}

/** Chips for a prompt: each has its `text`, and the `prompt` with it. */
function nextOf(prompt, { things, colours, places }) {
  const word = lastWord(prompt);
  const before = prompt.slice(0, prompt.length - word.length);
  const typed = word.toLowerCase();
  const known = [...colours, ...things, ...places];
  const said = prompt.trimEnd().toLowerCase();
  const endsWith = (words) => words.some((each) => said.endsWith(each));
  const begun = typed.length < 2 || endsWith(known) ? [] : known.filter((each) => each.startsWith(typed) && each !== typed);
  if (begun.length) return begun.map((text) => ({ text, prompt: `${before}${text}` }));
  const last = lastWord(said);
  const start = prompt.trimEnd() && `${prompt.trimEnd()} `;
  const add = (texts) => texts.map((text) => ({ text, prompt: start + text }));
  if (endsWith(colours)) return add(shuffled(things));
  if (endsWith(things)) return add([...shuffled(places).slice(0, 3), ...shuffled(colours).slice(0, 3).map((each) => `and ${article(each)}`)]);
  if (!said) return add(shuffled(colours).slice(0, MAX_CHIPS).map(article));
  return JOINING.has(last) ? add(shuffled(colours)) : [];
}

function lastWord(text) {
  return text.slice(-LONGEST_WORD).match(/[\p{L}\p{N}-]*$/u)[0];
}

function article(word) {
  return `${/^[aeiou]/i.test(word) ? "an" : "a"} ${word}`;
}

/** In an order that stays while the page is open, so that chips do not jump, but differs between visits. */
function shuffled(words) {
  return [...words].sort((one, other) => rank(one) - rank(other));
}

const visit = Math.random();

function rank(word) {
  let sum = visit;
  for (const character of word) sum = (sum * 31.7 + character.codePointAt(0)) % 1009;
  return sum;
}
