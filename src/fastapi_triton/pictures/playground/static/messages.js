// SPDX-License-Identifier: Apache-2.0
// Words beside what they are about: said where the person looks, gone once it is mended.

const byId = (id) => document.getElementById(id);

/** A place for words, `id`-error, and the control that it speaks of. */
export class Place {
  #words;
  #control;
  #rest;

  constructor(words, control = null) {
    this.#words = words;
    this.#control = control;
    this.#rest = words.textContent;
  }

  static of(id) {
    return new Place(byId(`${id}-error`), byId(id));
  }

  /** It cannot go on like this. */
  wrong(words) {
    this.#show(words, true);
  }

  /** Nothing is wrong, but it should be known. */
  note(words) {
    this.#show(words, false);
  }

  clear() {
    this.#show(this.#rest, false);
  }

  focus() {
    this.#control?.focus();
  }

  #show(words, isWrong) {
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#words.classList.toggle("wrong", isWrong);
    this.#words.classList.toggle("calm", !isWrong);
    if (isWrong) this.#control?.setAttribute("aria-invalid", "true");
    else this.#control?.removeAttribute("aria-invalid");
  }
}

/** 3 → "3 s", 75 → "1 min 15 s" */
export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
