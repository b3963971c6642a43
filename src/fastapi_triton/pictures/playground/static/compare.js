// SPDX-License-Identifier: Apache-2.0
// The scribble over its picture, up to a line that can be moved.

import { keepFocus } from "./focus.js";

const MIDDLE = 50;

/** `host` has the slider, and an image that shows the scribble. `button` switches it on and off. */
export class Compare {
  #host;
  #image;
  #slider;
  #button;
  #scribble = null;

  constructor({ host, image, slider, button }) {
    [this.#host, this.#image, this.#slider, this.#button] = [host, image, slider, button];
    button.addEventListener("click", () => this.#open(host.hidden));
    slider.addEventListener("input", () => this.#move());
    // Not all browsers move a slider to the place of a touch.
    for (const name of ["pointerdown", "pointermove"]) slider.addEventListener(name, (event) => this.#point(event));
  }

  /** Compare with this scribble, a picture file; null if there is no finished picture. */
  show(scribble) {
    if (scribble === this.#scribble) return;
    this.#scribble = scribble;
    URL.revokeObjectURL(this.#image.src);
    if (scribble) this.#image.src = URL.createObjectURL(scribble);
    keepFocus(() => {
      this.#button.disabled = !scribble;
      if (!scribble) this.#open(false);
    });
  }

  close() {
    this.#open(false);
  }

  #open(isOpen) {
    this.#host.hidden = !isOpen;
    this.#button.ariaPressed = String(isOpen);
    if (!isOpen) return;
    this.#slider.value = MIDDLE;
    this.#move();
    this.#slider.focus();
  }

  #point(event) {
    if (!event.buttons) return;
    const { left, width } = this.#slider.getBoundingClientRect();
    this.#slider.value = (100 * (event.clientX - left)) / width;
    this.#move();
  }

  #move() {
    this.#host.style.setProperty("--at", `${this.#slider.value}%`);
    this.#slider.ariaValueText = `${Math.round(this.#slider.value)}% scribble`;
  }
}
