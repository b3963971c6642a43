// SPDX-License-Identifier: Apache-2.0
// Messages on the page: each is shown beside what it is about, until the problem is solved.

const byId = (id) => document.getElementById(id);

/** The element that shows a message (`<id>-error`), and the control that the message is about. */
export class Message {
  #element;
  #control;
  #defaultText;

  constructor(element, control = null) {
    this.#element = element;
    this.#control = control;
    this.#defaultText = element.textContent;
  }

  static of(id) {
    return new Message(byId(`${id}-error`), byId(id));
  }

  /** An error that the person has to correct. */
  error(text) {
    this.#show(text, true);
  }

  /** Information; the control's value is valid. */
  note(text) {
    this.#show(text, false);
  }

  clear() {
    this.#show(this.#defaultText, false);
    this.#element.classList.remove("calm");
  }

  focus() {
    this.#control?.focus();
  }

  #show(text, isError) {
    if (this.#element.textContent !== text) this.#element.textContent = text;
    this.#element.classList.toggle("wrong", isError);
    this.#element.classList.toggle("calm", !isError);
    if (isError) this.#control?.setAttribute("aria-invalid", "true");
    else this.#control?.removeAttribute("aria-invalid");
  }
}

/** 3 → "3 s", 75 → "1 min 15 s" */
export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
