// SPDX-License-Identifier: Apache-2.0
// Draws by keyboard: arrow keys move a pen, and Space lowers and lifts it.

const STEP = 16;
const SMALL_STEP = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * A press of a pointer lifts the pen, which ends its stroke. So it must listen before `Pointers`, which then begins another.
 *
 * Dispatches `move` with the pen's position (detail: x and y as parts of the canvas's width and height).
 */
export class KeyboardPen extends EventTarget {
  #scribble;
  #crosshair;
  #x = 0;
  #y = 0;
  #isDown = false;

  constructor(canvas, crosshair, scribble) {
    super();
    this.#scribble = scribble;
    this.#crosshair = crosshair;
    canvas.addEventListener("keydown", (event) => this.#keydown(event));
    // Space acts when it is released: held, it moves the view with the mouse.
    canvas.addEventListener("keyup", (event) => event.key === " " && this.#toggle());
    for (const name of ["blur", "pointerdown"]) canvas.addEventListener(name, () => this.#lift());
  }

  #keydown(event) {
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(arrow || event.key === " ")) return;
    event.preventDefault();
    if (!arrow) return;
    const step = event.shiftKey ? SMALL_STEP : STEP;
    const [right, bottom] = this.#scribble.size.map((side) => side / 2 / this.#scribble.scale);
    this.#x = Math.min(right, Math.max(-right, this.#x + arrow[0] * step));
    this.#y = Math.min(bottom, Math.max(-bottom, this.#y + arrow[1] * step));
    if (this.#isDown) this.#scribble.extend(this.#point);
    this.#show();
  }

  get #point() {
    return { x: this.#x, y: this.#y, width: this.#scribble.width };
  }

  #toggle() {
    if (this.#scribble.isDrawing && !this.#isDown) return; // a pointer draws
    if (this.#scribble.tool === "fill") this.#scribble.fill(this.#point);
    else {
      this.#isDown = !this.#isDown;
      if (this.#isDown) this.#scribble.begin(this.#scribble.tool, this.#point);
      else this.#scribble.finish();
    }
    this.#show();
  }

  #lift() {
    if (this.#isDown) this.#scribble.finish();
    this.#isDown = false;
    this.#crosshair.hidden = true;
  }

  #show() {
    const [width, height] = this.#scribble.size.map((side) => side / this.#scribble.scale);
    const detail = { x: this.#x / width + 0.5, y: this.#y / height + 0.5 };
    this.#crosshair.hidden = false;
    this.#crosshair.classList.toggle("down", this.#isDown);
    this.#crosshair.style.left = `${detail.x * 100}%`;
    this.#crosshair.style.top = `${detail.y * 100}%`;
    this.dispatchEvent(new CustomEvent("move", { detail }));
  }
}
