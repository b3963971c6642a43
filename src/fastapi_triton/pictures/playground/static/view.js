// SPDX-License-Identifier: Apache-2.0
// The part of the canvas that is visible: zoom and position. The layers always cover their frame.

const LARGEST = 8;
const NEARLY_WHOLE = 1.01; // a person sees no difference below this zoom

/** Dispatches `change` with each move. Moves `layers` inside `frame` by CSS, so drawing on them needs no conversion. */
export class View extends EventTarget {
  zoom = 1;
  #frame;
  #layers;
  #x = 0; // of the layers' left edge, in widths of the frame
  #y = 0;

  constructor(frame, layers) {
    super();
    this.#frame = frame;
    this.#layers = layers;
  }

  /** Whether all of the canvas is visible, as far as a person sees. */
  get isWhole() {
    return this.zoom < NEARLY_WHOLE;
  }

  /** Zoom by a factor around a point of the window. */
  zoomBy(factor, clientX, clientY) {
    const box = this.#frame.getBoundingClientRect();
    const [x, y] = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    const zoom = Math.min(LARGEST, Math.max(1, this.zoom * factor));
    const change = zoom / this.zoom;
    this.#move(zoom, x - (x - this.#x) * change, y - (y - this.#y) * change);
  }

  /** Zoom by a factor around the middle. */
  zoomMiddle(factor) {
    const box = this.#frame.getBoundingClientRect();
    this.zoomBy(factor, box.left + box.width / 2, box.top + box.height / 2);
  }

  /** Move by pixels of the window. */
  panBy(dx, dy) {
    const box = this.#frame.getBoundingClientRect();
    this.#move(this.zoom, this.#x + dx / box.width, this.#y + dy / box.height);
  }

  /** Make a point visible, given as parts of the layers' width and height. */
  reveal(x, y) {
    const margin = 0.1;
    const into = (part, offset) => Math.min(1 - margin - part * this.zoom, Math.max(margin - part * this.zoom, offset));
    this.#move(this.zoom, into(x, this.#x), into(y, this.#y));
  }

  reset() {
    this.#move(1, 0, 0);
  }

  #move(zoom, x, y) {
    this.zoom = zoom < NEARLY_WHOLE && zoom < this.zoom ? 1 : zoom; // on the way in, a slow pinch has many small steps
    const within = (offset) => Math.min(0, Math.max(1 - this.zoom, offset));
    [this.#x, this.#y] = [within(x), within(y)];
    this.#layers.style.transform = `translate(${100 * this.#x}%, ${100 * this.#y}%) scale(${this.zoom})`;
    this.#layers.style.setProperty("--unzoom", String(1 / this.zoom));
    this.dispatchEvent(new Event("change"));
  }
}
