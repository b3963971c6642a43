// SPDX-License-Identifier: Apache-2.0
// A ring of the brush's size around the pointer.

const SMALLEST = 8; // pixels: below, the system's crosshair stays visible

export class Ring {
  #element;
  #canvas;
  #scribble;
  #at = null; // x and y in the window

  /** `element` is in the same frame as the canvas. */
  constructor(element, canvas, scribble) {
    this.#element = element;
    this.#canvas = canvas;
    this.#scribble = scribble;
    for (const name of ["pointerenter", "pointermove", "pointerdown", "pointerup"]) {
      canvas.addEventListener(name, (event) => this.#follow(event));
    }
    for (const name of ["pointerleave", "pointercancel"]) canvas.addEventListener(name, () => this.#hide());
  }

  /** The brush, the tool or the view has changed. */
  update() {
    const isShown = this.#at !== null && this.#scribble.tool !== "fill" && !this.#canvas.dataset.hand;
    this.#element.hidden = !isShown;
    const frame = this.#element.parentElement.getBoundingClientRect();
    const { width: canvasWidth } = this.#canvas.getBoundingClientRect();
    const diameter = (this.#scribble.width * this.#scribble.scale * canvasWidth) / this.#scribble.size[0];
    this.#canvas.classList.toggle("ringed", isShown && diameter >= SMALLEST);
    if (!isShown) return;
    Object.assign(this.#element.style, {
      width: `${diameter}px`,
      height: `${diameter}px`,
      left: `${this.#at.x - frame.left}px`,
      top: `${this.#at.y - frame.top}px`,
    });
  }

  /** Show the brush in the middle of the frame for a moment, for example while its size is chosen elsewhere. */
  preview() {
    const box = this.#element.parentElement.getBoundingClientRect();
    this.#at = { x: box.left + box.width / 2, y: box.top + box.height / 2 };
    this.update();
  }

  endPreview() {
    this.#hide();
  }

  #follow(event) {
    this.#at = event.pointerType === "touch" ? null : { x: event.clientX, y: event.clientY };
    this.update();
  }

  #hide() {
    this.#at = null;
    this.update();
  }
}
