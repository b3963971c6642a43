// SPDX-License-Identifier: Apache-2.0
// The API key of a server that asks for one: kept until the tab is closed, and sent to this server alone.

const NAME = "fastapi-triton-key";

/** Where a key is typed in. `use` is called with each new one. */
export class KeyForm {
  #form;
  #input;
  #place;

  constructor(form, input, place, use) {
    this.#form = form;
    this.#input = input;
    this.#place = place;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = input.value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) {
        place.wrong(key ? "A key is of letters, digits and signs, without spaces." : "Type the key in first.");
        input.focus();
        return;
      }
      keep(key);
      use();
    });
  }

  /** Ask for a key, and say why. */
  ask(why) {
    const isNew = this.#form.hidden;
    this.#form.hidden = false;
    if (kept()) this.#place.wrong(why);
    else this.#place.note(why);
    if (isNew || kept()) this.#input.focus();
  }

  close() {
    const hadFocus = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#input.value = "";
    this.#place.clear();
    return hadFocus;
  }
}

let inMemory = "";

function keep(key) {
  inMemory = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // It lasts until the page is loaded again.
  }
}

function kept() {
  try {
    return sessionStorage.getItem(NAME) ?? inMemory;
  } catch {
    return inMemory;
  }
}

/** What a request to the server carries; nothing where no key was asked for. */
export function credentials() {
  const key = kept();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
