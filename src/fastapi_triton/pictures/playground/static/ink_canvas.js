// SPDX-License-Identifier: Apache-2.0
// The canvas element that shows a drawing: its shape, its pixels, and what is painted on it.

import { encode } from "./encoder.js";
import { paint, paintEnd } from "./painting.js";

const LONG_SIDE = 1024; // pixels of the canvas, whatever its size on the screen
const RECENT = 12; // actions that are painted anew after the last checkpoint
const MIN_SENT = 512; // pixels of the long side: strokes stay smooth even for smaller pictures

/** Lengths are in units from the middle. The short side is 1024 units, so a square fits into every shape. */
export class InkCanvas {
  #canvas;
  #context;
  #kept = null;
  #checkpoint = { actions: [], picture: null }; // the first actions of a drawing, painted

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  get size() {
    return [this.#canvas.width, this.#canvas.height];
  }

  /** Canvas pixels for one unit. */
  get scale() {
    return Math.min(...this.size) / LONG_SIDE;
  }

  /** Another size empties the canvas. */
  set size([width, height]) {
    Object.assign(this.#canvas, { width, height });
    this.#checkpoint = { actions: [], picture: null };
  }

  /** The size for pictures of this shape; a square for numbers that are none. */
  sizeFor(width, height) {
    return [width, height].map((side) => Math.max(1, Math.round((side * LONG_SIDE) / Math.max(width, height)) || LONG_SIDE));
  }

  /** Paint a drawing. Undo paints only the last actions of a long one anew. */
  show(actions) {
    this.#context.clearRect(0, 0, ...this.size);
    const { actions: painted, picture } = this.#checkpoint;
    const isPart = painted.every((action, index) => action === actions[index]);
    if (isPart && picture) this.#context.drawImage(picture, 0, 0);
    for (let index = isPart ? painted.length : 0; index < actions.length; index++) {
      if (index > 0 && index === actions.length - RECENT) this.#checkpoint = { actions: actions.slice(0, index), picture: this.#copy() };
      this.add(actions[index]);
    }
  }

  add(action) {
    this.#centred(() => paint(this.#context, action));
  }

  addEnd(stroke) {
    this.#centred(() => paintEnd(this.#context, stroke));
  }

  /** Keep a copy for `goBack`. */
  keep() {
    this.#kept = this.#copy();
  }

  goBack() {
    this.#context.globalCompositeOperation = "copy";
    this.#context.drawImage(this.#kept, 0, 0);
  }

  /** The pixel at a point, as its column and row. */
  pixelAt({ x, y }) {
    const within = (value, side) => Math.min(side - 1, Math.max(0, Math.floor(value * this.scale + side / 2)));
    return [within(x, this.size[0]), within(y, this.size[1])];
  }

  /** Corners of pixels (x, y, x, y …) in units. */
  inUnits(corners) {
    const middles = this.size.map((side) => side / 2);
    return Float32Array.from(corners, (value, index) => (value - middles[index % 2]) / this.scale);
  }

  /** The pixels of a copy, which may be smaller: reading the canvas itself makes it slow. */
  pixels(part = 1) {
    const [width, height] = this.size.map((side) => Math.round(side * part));
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(this.#canvas, 0, 0, width, height);
    return copy.getImageData(0, 0, width, height);
  }

  /** A PNG for the model, black on white, no larger than a picture with sides of this many pixels needs. */
  async toBlob(pixels) {
    const scale = Math.min(1, Math.max(MIN_SENT, pixels) / LONG_SIDE);
    const size = this.size.map((side) => Math.round(side * scale));
    const sheet = new OffscreenCanvas(...size);
    const context = sheet.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, ...size);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#canvas, 0, 0, ...size);
    return encode(sheet);
  }

  #copy() {
    const copy = new OffscreenCanvas(...this.size);
    copy.getContext("2d").drawImage(this.#canvas, 0, 0);
    return copy;
  }

  #centred(run) {
    this.#context.save();
    this.#context.translate(this.size[0] / 2, this.size[1] / 2);
    this.#context.scale(this.scale, this.scale);
    run();
    this.#context.restore();
  }
}
