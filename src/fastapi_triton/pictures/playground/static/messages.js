// SPDX-License-Identifier: Apache-2.0
// Messages on the page: each is shown beside what it is about, until the problem is solved.

import { countDown } from "./countdown.js";

const BRIEFLY_MS = 8000;

const byId = (id) => document.getElementById(id);

/** The element that shows a message (`<id>-error`), and the control that the message is about. */
export class Message {
  #element;
  #control;
  #defaultText;
  #stopWaiting = () => {};
  #numShown = 0;

  constructor(element, control = null) {
    this.#element = element;
    this.#control = control;
    this.#defaultText = element.textContent;
  }

  static of(id) {
    return new Message(byId(`${id}-error`), byId(id));
  }

  /** An error that the person has to correct. Returns a function that clears it, unless another message has replaced it. */
  error(text) {
    this.#show(text, true);
    return this.#revoker();
  }

  /**
   * Information; the control's value is valid. `action`: a button, such as Undo, as its `label` and what it does (`run`).
   * Returns what `error` does.
   */
  note(text, action = null) {
    this.#show(text, false);
    if (!action) return this.#revoker();
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: action.label });
    button.addEventListener("click", action.run);
    this.#element.append(" ", button);
    return this.#revoker();
  }

  /** Information that goes away by itself. */
  noteBriefly(text) {
    this.note(text);
    const timer = setTimeout(() => this.clear(), BRIEFLY_MS);
    this.#stopWaiting = () => clearTimeout(timer);
  }

  /** An error that time solves. The seconds tick; only the first number is read out. `end(isOver)`: the time is over, or
   * another message has replaced this one. */
  errorFor(seconds, text, end) {
    this.error(text);
    const [seen, spoken] = [document.createElement("span"), document.createElement("span")];
    seen.ariaHidden = "true";
    spoken.className = "unseen";
    spoken.textContent = ` Try again in ${duration(seconds)}.`;
    this.#element.append(seen, spoken);
    const stop = countDown(seconds, (left) => {
      seen.textContent = ` Try again in ${duration(left)}.`;
    }, () => {
      this.#stopWaiting = () => {};
      end(true);
    });
    this.#stopWaiting = () => {
      stop();
      end(false);
    };
  }

  clear() {
    this.#show(this.#defaultText, false);
    this.#element.classList.remove("calm");
  }

  #revoker() {
    const shown = this.#numShown;
    return () => shown === this.#numShown && this.clear();
  }

  focus() {
    this.#control?.focus();
  }

  #show(text, isError) {
    const stop = this.#stopWaiting;
    this.#stopWaiting = () => {};
    stop();
    this.#numShown++;
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
