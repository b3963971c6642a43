// SPDX-License-Identifier: Apache-2.0
// Says what was restored from a link or a picture, with ways back.

import { keepFocus } from "./focus.js";

/** `host` has the text and the buttons `undo`, `trace` and `close`. */
export class RestoredNote {
  #host;
  #text;
  #buttons;
  #actions = {};

  constructor(host, text, buttons) {
    [this.#host, this.#text, this.#buttons] = [host, text, buttons];
    for (const [name, button] of Object.entries(buttons)) {
      button.addEventListener("click", () => {
        this.hide();
        this.#actions[name]?.();
      });
    }
  }

  /** `actions`: by button; those without an action are hidden, except `close`. */
  show(text, actions) {
    this.#actions = actions;
    for (const [name, button] of Object.entries(this.#buttons)) button.hidden = name !== "close" && !actions[name];
    this.#host.hidden = false;
    this.#text.textContent = text;
  }

  hide() {
    keepFocus(() => (this.#host.hidden = true));
  }
}
