// SPDX-License-Identifier: Apache-2.0
// The drawing: a list of actions with undo and redo, painted on a canvas. Ink is black on transparent.

import { areaAround } from "./fill.js";
import { PER_POINT, paint, paintEnd } from "./painting.js";

const LONG_SIDE = 1024; // pixels of the canvas, whatever its size on the screen
const MIN_SENT = 512; // pixels of the long side: strokes stay smooth even for smaller pictures
const CLOSEST = 1.5; // units between two points of a stroke
const LINE_STEP = 8; // units between the points of a straight line
const KEPT_SHEETS = 12; // drawings that were replaced, which undo still reaches

/**
 * Dispatches `change` when the drawing changes: at the end of a stroke, not during it; `cancel` when one is taken back.
 *
 * Lengths are in units from the middle of the canvas. Its short side is 1024 units, so a square fits into every shape.
 * Actions are strokes, filled areas and pictures. A `sheet` action replaces all before it by its own actions.
 */
export class Scribble extends EventTarget {
  tool = "brush"; // or eraser or fill
  width = 20;
  #canvas;
  #ink;
  #actions = [];
  #undone = [];
  #stroke = null;
  #before = null; // a copy of the canvas without the stroke

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#ink = canvas.getContext("2d");
  }

  get size() {
    return [this.#canvas.width, this.#canvas.height];
  }

  /** Canvas pixels for one unit. */
  get scale() {
    return Math.min(...this.size) / LONG_SIDE;
  }

  get canUndo() {
    return this.#actions.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** The actions that the canvas shows. */
  get visible() {
    const last = this.#actions.findLastIndex((action) => action.kind === "sheet");
    return [...(this.#actions[last]?.actions ?? []), ...this.#actions.slice(last + 1)];
  }

  /** Whether nothing was drawn since the last clear. `hasInk` also notices that everything was erased. */
  get isBlank() {
    return this.visible.length === 0;
  }

  /** Where the last stroke ended: x, y; null if the last action is no stroke. */
  get lastPoint() {
    const last = this.visible.at(-1);
    return last?.kind === "stroke" ? { x: last.points.at(-3), y: last.points.at(-2) } : null;
  }

  hasInk() {
    if (this.isBlank) return false;
    return this.#pixels(1 / 4).data.some((value) => value > 24); // ink is black: only alpha is not 0
  }

  /** Give the canvas the picture's shape. A drawing on a square stays whole, around the middle. */
  setShape(width, height) {
    const scale = LONG_SIDE / Math.max(width, height);
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (size.join() === this.size.join()) return;
    this.finish();
    [this.#canvas.width, this.#canvas.height] = size;
    this.#repaint();
  }

  // ---- actions

  undo() {
    this.#shift(this.#actions, this.#undone);
  }

  redo() {
    this.#shift(this.#undone, this.#actions);
  }

  clear() {
    if (!this.isBlank) this.replace([]);
  }

  /** Replace the drawing by actions, such as those that were `visible` before. */
  replace(actions) {
    this.#add({ kind: "sheet", actions });
  }

  /** Replace the drawing by ink: a canvas, black on transparent. */
  async load(ink) {
    const png = await ink.convertToBlob({ type: "image/png" }); // for `stored`
    this.replace([{ kind: "picture", ink, png, width: ink.width / this.scale, height: ink.height / this.scale }]);
  }

  /** Fill the area around a point, or erase it. Returns whether there was one. */
  fill({ x, y }) {
    const pixels = this.#pixels(1);
    const [column, row] = this.#onCanvas(x, y);
    const contours = areaAround(pixels, column, row);
    if (!contours) return false;
    const [left, top] = this.size.map((side) => side / 2);
    const inUnits = (value, index) => (value - (index % 2 ? top : left)) / this.scale;
    this.#add({ kind: "fill", contours: contours.map((contour) => Float32Array.from(contour, inUnits)) });
    return true;
  }

  // ---- one stroke

  get isDrawing() {
    return this.#stroke !== null;
  }

  begin(tool, { x, y, width }) {
    this.finish();
    this.#before = new OffscreenCanvas(...this.size);
    this.#before.getContext("2d").drawImage(this.#canvas, 0, 0);
    this.#stroke = { kind: "stroke", tool, points: [x, y, width] };
    this.#centred(() => paint(this.#ink, this.#stroke));
  }

  extend({ x, y, width }) {
    if (!this.#stroke) return; // it was cancelled
    const { points } = this.#stroke;
    if (Math.hypot(x - points.at(-3), y - points.at(-2)) < CLOSEST) return;
    points.push(x, y, width);
    this.#centred(() => paintEnd(this.#ink, this.#stroke));
  }

  /** The number of points of the stroke. */
  get numPoints() {
    return this.#stroke.points.length / PER_POINT;
  }

  /** The point of the stroke with this index. */
  pointAt(index) {
    const [x, y, width] = this.#stroke.points.slice(index * PER_POINT, (index + 1) * PER_POINT);
    return { x, y, width };
  }

  /** Replace the points after this index by a straight line. */
  straighten(index, { x, y, width }) {
    const { points } = this.#stroke;
    const from = this.pointAt(index);
    points.length = (index + 1) * PER_POINT;
    const numSteps = Math.max(1, Math.round(Math.hypot(x - from.x, y - from.y) / LINE_STEP));
    for (let step = 1; step <= numSteps; step++) {
      const part = step / numSteps;
      points.push(from.x + part * (x - from.x), from.y + part * (y - from.y), from.width + part * (width - from.width));
    }
    this.#restoreBefore();
    this.#centred(() => paint(this.#ink, this.#stroke));
  }

  finish() {
    if (!this.#stroke) return;
    const stroke = { ...this.#stroke, points: Float32Array.from(this.#stroke.points) };
    this.#takeBack();
    this.#centred(() => paint(this.#ink, stroke));
    this.#add(stroke, true);
  }

  /** Take the stroke back. */
  cancel() {
    this.#takeBack();
    this.dispatchEvent(new Event("cancel"));
  }

  // ---- storage and the model

  /** What a browser can store: the drawing with undo and redo. */
  stored() {
    return { actions: this.#actions.map(storable), undone: this.#undone.map(storable) };
  }

  /** The visible actions, as a browser can store them. */
  storedVisible() {
    return this.visible.map(storable);
  }

  /** Show a stored drawing, with its undo and redo, below what was drawn since. */
  async restore({ actions, undone }) {
    const [before, after] = [await readable(actions), await readable(undone)];
    this.finish();
    if (!this.#actions.length) this.#undone = after;
    this.#actions.unshift(...before);
    this.#repaint();
  }

  /** Replace the drawing by stored actions. */
  async replaceStored(actions) {
    this.replace(await readable(actions));
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
    return sheet.convertToBlob({ type: "image/png" });
  }

  // ---- paint

  #add(action, isPainted = false) {
    this.#takeBack();
    this.#actions.push(action);
    const sheets = this.#actions.flatMap(({ kind }, index) => (kind === "sheet" ? [index] : []));
    if (sheets.length > KEPT_SHEETS) this.#actions.splice(0, sheets.at(-KEPT_SHEETS));
    this.#undone = [];
    if (isPainted) this.dispatchEvent(new Event("change"));
    else this.#repaint();
  }

  #shift(from, to) {
    if (this.#stroke || !from.length) return;
    to.push(from.pop());
    this.#repaint();
  }

  #repaint() {
    this.#ink.clearRect(0, 0, ...this.size);
    this.#centred(() => {
      for (const action of this.visible) paint(this.#ink, action);
    });
    this.dispatchEvent(new Event("change"));
  }

  #takeBack() {
    if (!this.#stroke) return;
    this.#restoreBefore();
    this.#stroke = this.#before = null;
  }

  #restoreBefore() {
    this.#ink.globalCompositeOperation = "copy";
    this.#ink.drawImage(this.#before, 0, 0);
  }

  #centred(run) {
    this.#ink.save();
    this.#ink.translate(this.size[0] / 2, this.size[1] / 2);
    this.#ink.scale(this.scale, this.scale);
    run();
    this.#ink.restore();
  }

  #onCanvas(x, y) {
    const [width, height] = this.size;
    const within = (value, side) => Math.min(side - 1, Math.max(0, Math.floor(value * this.scale + side / 2)));
    return [within(x, width), within(y, height)];
  }

  /** The pixels of a copy: reading the canvas itself makes it slow. */
  #pixels(part) {
    const [width, height] = this.size.map((side) => Math.round(side * part));
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(this.#canvas, 0, 0, width, height);
    return copy.getImageData(0, 0, width, height);
  }
}

function storable(action) {
  const { ink, ...rest } = action;
  return rest.kind === "sheet" ? { ...rest, actions: rest.actions.map(storable) } : rest;
}

async function readable(actions) {
  const read = async (action) => {
    if (action.kind === "sheet") return { ...action, actions: await readable(action.actions) };
    return action.kind === "picture" ? { ...action, ink: await createImageBitmap(action.png) } : action;
  };
  return Promise.all(actions.map(read));
}
