// SPDX-License-Identifier: Apache-2.0
// The drawing: a list of actions, with undo and redo. Ink is black on transparent.

import { encode } from "./encoder.js";
import { areaAround } from "./fill.js";
import { InkCanvas } from "./ink_canvas.js";
import { PER_POINT } from "./painting.js";

const CLOSEST = 1.5; // units between two points of a stroke
const LINE_STEP = 8; // units between the points of a straight line
const KEPT_SHEETS = 12; // drawings that were replaced, which undo still reaches

/**
 * Dispatches `change` when the drawing changes: at the end of a stroke, not during it; `cancel` when one is taken back.
 *
 * Actions are strokes, filled areas and pictures, in the units of `InkCanvas`. A `sheet` action replaces all before it by
 * its own actions.
 */
export class Scribble extends EventTarget {
  tool = "brush"; // or eraser or fill
  width = 20;
  #canvas;
  #actions = [];
  #undone = [];
  #stroke = null;

  constructor(canvas) {
    super();
    this.#canvas = new InkCanvas(canvas);
  }

  get size() {
    return this.#canvas.size;
  }

  /** Canvas pixels for one unit. */
  get scale() {
    return this.#canvas.scale;
  }

  get canUndo() {
    return this.#actions.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** The actions that the canvas shows, without the stroke that is being drawn. */
  get visible() {
    const last = this.#actions.findLastIndex((action) => action.kind === "sheet");
    return [...(this.#actions[last]?.actions ?? []), ...this.#actions.slice(last + 1)];
  }

  /** The sheet that is drawn on; null for the first. Clearing, loading and restoring begin another one. */
  get sheet() {
    return this.#actions.findLast(({ kind }) => kind === "sheet") ?? null;
  }

  /** Whether nothing was drawn since the last clear. A stroke counts when it has ended. */
  get isBlank() {
    return this.visible.length === 0;
  }

  /** Whether there is ink: also of a stroke that is being drawn, and not if everything was erased. */
  hasInk() {
    if (this.isBlank && !this.isDrawing) return false;
    return this.#canvas.pixels(1 / 4).data.some((value) => value > 24); // ink is black: only alpha is not 0
  }

  /** Give the canvas the picture's shape. A drawing on a square stays whole, around the middle. */
  setShape(width, height) {
    const size = this.#canvas.sizeFor(width, height);
    if (size.join() === this.size.join()) return;
    this.finish();
    this.#canvas.size = size;
    this.#changed();
  }

  /** A PNG for the model, of at least this many pixels. */
  toBlob(pixels) {
    return this.#canvas.toBlob(pixels);
  }

  // ---- actions

  undo() {
    this.#shift(this.#actions, this.#undone);
  }

  redo() {
    this.#shift(this.#undone, this.#actions);
  }

  clear() {
    if (!this.isBlank) this.#replace([]);
  }

  /** Forget all actions. Undo does not bring them back. */
  empty() {
    [this.#actions, this.#undone] = [[], []];
    this.#changed();
  }

  /** Replace the drawing by ink: a canvas, black on transparent. */
  async load(ink) {
    const png = await encode(ink); // a file can be stored
    this.#replace([{ kind: "picture", ink, png, width: ink.width / this.scale, height: ink.height / this.scale }]);
  }

  /** Fill the area around a point, if there is one. */
  fill(point) {
    const contours = areaAround(this.#canvas.pixels(), ...this.#canvas.pixelAt(point));
    if (!contours) return;
    this.#push({ kind: "fill", contours: contours.map((corners) => this.#canvas.inUnits(corners)) });
    this.#changed();
  }

  // ---- one stroke

  get isDrawing() {
    return this.#stroke !== null;
  }

  /** Where the last stroke ended: x, y; null if the last action is no stroke. */
  get lastPoint() {
    const last = this.visible.at(-1);
    return last?.kind === "stroke" ? { x: last.points.at(-3), y: last.points.at(-2) } : null;
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

  begin(tool, { x, y, width }) {
    this.finish();
    this.#go({ kind: "stroke", tool, points: [x, y, width] });
  }

  extend({ x, y, width }) {
    if (!this.#stroke) return; // it was taken back
    const { points } = this.#stroke;
    if (Math.hypot(x - points.at(-3), y - points.at(-2)) < CLOSEST) return;
    points.push(x, y, width);
    this.#canvas.addEnd(this.#stroke);
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
    this.#canvas.goBack();
    this.#canvas.add(this.#stroke);
  }

  finish() {
    if (!this.#stroke) return;
    const stroke = storable(this.#stroke);
    this.#takeBack();
    this.#canvas.add(stroke); // as a whole, as undo and redo will paint it
    this.#push(stroke);
    this.dispatchEvent(new Event("change"));
  }

  /** Take the stroke back. */
  cancel() {
    this.#takeBack();
    this.dispatchEvent(new Event("cancel"));
  }

  // ---- what a browser can store

  /** The drawing with undo and redo. */
  stored() {
    return { actions: this.#actions.map(storable), undone: this.#undone.map(storable) };
  }

  /** The visible actions, with the stroke that is being drawn. */
  storedVisible() {
    return [...this.visible, ...(this.#stroke ? [this.#stroke] : [])].map(storable);
  }

  /** Show a stored drawing, with its undo and redo, below what was drawn since. */
  async restore({ actions, undone }) {
    const [before, after] = [await readable(actions), await readable(undone)];
    if (!this.#actions.length) this.#undone = after;
    this.#actions.unshift(...before);
    const stroke = this.#stroke; // under the pen
    this.#changed();
    if (stroke) this.#go(stroke);
  }

  /** Replace the drawing by stored actions. */
  async replaceStored(actions) {
    this.#replace(await readable(actions));
  }

  // ---- changes

  #replace(actions) {
    this.#push({ kind: "sheet", actions });
    this.#changed();
  }

  #push(action) {
    this.#takeBack();
    this.#actions.push(action);
    const sheets = this.#actions.flatMap(({ kind }, index) => (kind === "sheet" ? [index] : []));
    if (sheets.length > KEPT_SHEETS) this.#actions.splice(0, sheets.at(-KEPT_SHEETS));
    this.#undone = [];
  }

  #shift(from, to) {
    if (this.#stroke || !from.length) return;
    to.push(from.pop());
    this.#changed();
  }

  /** The stroke can be extended, changed or taken back from now on. */
  #go(stroke) {
    this.#canvas.keep();
    this.#stroke = stroke;
    this.#canvas.add(stroke);
  }

  #takeBack() {
    if (this.#stroke) this.#canvas.goBack();
    this.#stroke = null;
  }

  #changed() {
    this.#takeBack();
    this.#canvas.show(this.visible);
    this.dispatchEvent(new Event("change"));
  }
}

function storable(action) {
  const { ink, ...rest } = action;
  if (Array.isArray(rest.points)) rest.points = Float32Array.from(rest.points); // of a stroke that is being drawn
  return rest.kind === "sheet" ? { ...rest, actions: rest.actions.map(storable) } : rest;
}

/** Stored actions, to be painted. Without pictures that the browser has lost: the rest of the drawing must not be lost too. */
async function readable(actions) {
  const read = async (action) => {
    if (action.kind === "sheet") return { ...action, actions: await readable(action.actions) };
    if (action.kind !== "picture") return action;
    const ink = await createImageBitmap(action.png).catch(() => null);
    return ink && { ...action, ink };
  };
  return (await Promise.all(actions.map(read))).filter(Boolean);
}
