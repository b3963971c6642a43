// SPDX-License-Identifier: Apache-2.0
// Draws by mouse, pen and touch: strokes, straight lines with Shift, and the bucket.

export const ERASER_END = 5; // the button of a pen's other end
const YOUNG_MS = 250;
const YOUNG_PIXELS = 16;
const STILL_PIXELS = 4;
const ANGLE = Math.PI / 12; // Shift draws lines in steps of 15°

export class Pointers {
  #canvas;
  #scribble;
  #press = null; // the pointer that draws

  /** `scribble` may be any drawing on the canvas, and may be exchanged. */
  constructor(canvas, scribble) {
    this.#canvas = canvas;
    this.#scribble = scribble;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event));
  }

  get isDrawing() {
    return this.#press !== null;
  }

  /** Take back a touch that has just begun, for example because a second finger follows. Returns whether nothing draws. */
  interrupt(timeStamp) {
    if (!this.#press) return true;
    if (this.#press.type !== "touch" || !this.#isYoung(timeStamp)) return false;
    this.#drop();
    return true;
  }

  #isYoung(timeStamp) {
    return timeStamp - this.#press.since < YOUNG_MS || this.#press.moved < YOUNG_PIXELS;
  }

  #drop() {
    this.#scribble.cancel();
    this.#press = null;
  }

  #down(event) {
    if (event.button !== 0 && event.button !== ERASER_END) return;
    if (event.pointerType === "pen" && this.#press?.type === "touch") this.#drop(); // it was the hand
    if (this.#press) return;
    const tool = event.button === ERASER_END ? "eraser" : this.#scribble.tool;
    const { pointerId: id, pointerType: type, timeStamp: since, clientX: x, clientY: y } = event;
    this.#press = { id, type, since, x, y, moved: 0, tool, anchor: null, from: event.shiftKey ? this.#scribble.lastPoint : null };
    this.#canvas.setPointerCapture(id);
    if (tool !== "fill") this.#scribble.begin(tool, this.#point(event));
  }

  #move(event) {
    const press = this.#press;
    if (event.pointerId !== press?.id) return;
    press.moved = Math.max(press.moved, Math.hypot(event.clientX - press.x, event.clientY - press.y));
    if (!this.#scribble.isDrawing) return;
    if (event.shiftKey) {
      if (press.moved < STILL_PIXELS) return;
      press.anchor ??= this.#scribble.numPoints - 1;
      this.#scribble.straighten(press.anchor, snapped(this.#scribble.pointAt(press.anchor), this.#point(event)));
      return;
    }
    press.anchor = null;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) this.#scribble.extend(this.#point(each));
  }

  #up(event) {
    const press = this.#press;
    if (event.pointerId !== press?.id) return;
    this.#press = null;
    if (press.tool === "fill") this.#scribble.fill(this.#point(event));
    else if (press.from && press.moved < STILL_PIXELS) {
      const to = this.#point(event);
      const width = this.#scribble.isDrawing ? this.#scribble.pointAt(0).width : to.width; // a pen that is lifted has no pressure
      this.#scribble.cancel();
      this.#scribble.begin(press.tool, { ...press.from, width });
      this.#scribble.straighten(0, { ...to, width });
      this.#scribble.finish();
    } else this.#scribble.finish();
  }

  /** The system took the pointer, for example because the palm touches the screen. */
  #cancel(event) {
    if (event.pointerId !== this.#press?.id) return;
    if (this.#isYoung(event.timeStamp)) this.#scribble.cancel();
    this.#press = null;
    this.#scribble.finish();
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    const [width, height] = this.#scribble.size;
    const { scale, width: brush } = this.#scribble;
    return {
      x: (((event.clientX - box.left) / box.width - 0.5) * width) / scale,
      y: (((event.clientY - box.top) / box.height - 0.5) * height) / scale,
      width: event.pointerType === "pen" && event.pressure ? brush * (0.35 + 1.1 * event.pressure) : brush,
    };
  }
}

/** The point on the nearest line in steps of 15°, as far away as the pointer. */
function snapped(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const angle = Math.round(Math.atan2(dy, dx) / ANGLE) * ANGLE;
  const length = dx * Math.cos(angle) + dy * Math.sin(angle);
  return { x: from.x + length * Math.cos(angle), y: from.y + length * Math.sin(angle), width: to.width };
}
