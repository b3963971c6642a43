// SPDX-License-Identifier: Apache-2.0
// The API key for a server that needs one. It is stored until the tab is closed, and sent to this server only.

const NAME = "fastapi-triton-key";

/** The form for the key. Calls `use` when a new key is stored. */
export class KeyForm {
  #form;
  #input;
  #message;

  constructor(form, input, message, use) {
    this.#form = form;
    this.#input = input;
    this.#message = message;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = input.value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) {
        message.error(key ? "This is not a key: keys have no spaces or accented letters." : "Enter a key first.");
        input.focus();
        return;
      }
      store(key);
      use();
    });
  }

  /** Show the form, with the reason. */
  open(reason) {
    const isNew = this.#form.hidden;
    this.#form.hidden = false;
    if (stored()) this.#message.error(reason);
    else this.#message.note(reason);
    if (isNew || stored()) this.#input.focus();
  }

  /** Hide the form. Returns whether it had the focus. */
  close() {
    const hadFocus = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#input.value = "";
    this.#message.clear();
    return hadFocus;
  }
}

let inMemory = "";

function store(key) {
  inMemory = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // The browser stores nothing: the key is lost when the page is reloaded.
  }
}

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? inMemory;
  } catch {
    return inMemory;
  }
}

/** The request headers with the key; none without a key. */
export function credentials() {
  const key = stored();
  return key ? { Authorization: `Bearer ${key}` } : {};
}
