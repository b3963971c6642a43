// SPDX-License-Identifier: Apache-2.0
// Up to four pictures at once, in the picture's frame. One of them can be chosen.

import { keepFocus } from "./focus.js";

/** A cell of the grid. It takes the course of one picture, as `PicturePane` does. */
class Cell {
  entry = null; // the history entry of the finished picture
  stepText = "";
  hasPreview = false;
  isEnded = false;
  #began = performance.now();
  #name;
  #image = document.createElement("img");
  #update;

  constructor(button, name, update) {
    this.button = button;
    this.#name = name;
    this.#update = update;
    this.#image.alt = "";
    button.append(this.#image);
    this.#state("waiting", "is waiting");
  }

  begin() {}

  queued() {}

  advance({ step, num_steps: numSteps, preview }) {
    this.stepText = `step ${step} of ${numSteps}`;
    if (preview) this.#show(`data:image/webp;base64,${preview}`);
    this.hasPreview ||= Boolean(preview);
    this.#state(this.hasPreview ? "preview" : "waiting", this.stepText);
  }

  /** Returns the seconds since the start. */
  complete(blob, { seed }) {
    this.#show(URL.createObjectURL(blob));
    this.isEnded = true;
    this.button.disabled = false;
    this.#state("done", `seed ${seed}`);
    return (performance.now() - this.#began) / 1000;
  }

  end(text) {
    this.isEnded = true;
    this.#state("broken", text);
  }

  remove() {
    this.#show("");
    this.button.remove();
  }

  #show(url) {
    if (this.#image.src.startsWith("blob:")) URL.revokeObjectURL(this.#image.src);
    this.#image.src = url;
  }

  #state(state, text) {
    this.button.dataset.state = state;
    this.button.ariaLabel = `${this.#name}, ${text}`;
    this.#update();
  }
}

/** Dispatches `choose` (detail: the history entry of the chosen picture). */
export class Grid extends EventTarget {
  #host;
  #back;
  #caption;
  #spoken;
  #cells = [];

  /** `back` shows the grid again after a picture was chosen. */
  constructor({ host, back, caption, spoken }) {
    super();
    [this.#host, this.#back, this.#caption, this.#spoken] = [host, back, caption, spoken];
    back.addEventListener("click", () => {
      this.#open(true);
      host.querySelector("button:enabled")?.focus();
    });
  }

  /** Show empty cells, and return them. */
  begin(count) {
    this.close();
    for (let number = 1; number <= count; number++) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", disabled: true });
      const cell = new Cell(button, `Picture ${number} of ${count}`, () => this.#say());
      button.addEventListener("click", () => this.#choose(cell));
      this.#cells.push(cell);
      this.#host.append(button);
    }
    this.#open(true);
    this.#say();
    return this.#cells;
  }

  /** Remove the grid. */
  close() {
    keepFocus(() => {
      for (const cell of this.#cells.splice(0)) cell.remove();
      this.#host.hidden = this.#back.hidden = true;
    });
  }

  #choose({ entry }) {
    this.#open(false);
    this.#back.focus();
    this.dispatchEvent(new CustomEvent("choose", { detail: entry }));
  }

  #open(isOpen) {
    this.#host.hidden = !isOpen;
    this.#back.hidden = isOpen;
    if (isOpen) this.#say();
  }

  #say() {
    if (this.#host.hidden) return;
    const count = this.#cells.length;
    const ready = this.#cells.filter((cell) => cell.button.dataset.state === "done").length;
    const step = this.#cells.find((cell) => !cell.isEnded && cell.stepText)?.stepText;
    const isOver = this.#cells.every((cell) => cell.isEnded);
    const text = isOver && ready ? `${ready} of ${count} are ready. Choose one.` : `${ready} of ${count} ready`;
    this.#caption.textContent = step ? `${text} · ${step}` : text;
    if (isOver) this.#spoken.textContent = text;
  }
}
