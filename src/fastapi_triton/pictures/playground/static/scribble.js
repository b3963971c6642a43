// SPDX-License-Identifier: Apache-2.0
// The canvas: strokes by mouse, pen, touch or keyboard; undo and redo. Ink is black on transparent.

const LONG_SIDE = 1024; // pixels of the canvas, whatever its size on the screen
const MIN_SENT = 512; // pixels of the long side: strokes stay smooth even for smaller pictures
const KEY_STEP = 16;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Dispatches `change` when the drawing changes. */
export class Scribble extends EventTarget {
  tool = "brush";
  width = 20;
  #canvas;
  #ink;
  #crosshair;
  #actions = []; // strokes, loaded pictures and clears, in units from the middle of the canvas
  #undone = [];
  #stroke = null;
  #pointer = null;
  #pen = { x: 0, y: 0, isDown: false }; // moved by the keyboard

  constructor(canvas, crosshair) {
    super();
    this.#canvas = canvas;
    this.#crosshair = crosshair;
    this.#ink = canvas.getContext("2d");
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftPen());
  }

  get size() {
    return [this.#canvas.width, this.#canvas.height];
  }

  get canUndo() {
    return this.#actions.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Whether nothing was drawn since the last clear. `hasInk` also notices that everything was erased. */
  get isBlank() {
    return this.#actions.length === this.#firstVisible() || this.#actions.at(-1).kind === "clear";
  }

  hasInk() {
    if (this.isBlank) return false;
    const [width, height] = this.size.map((side) => side / 4); // reads a copy: reading the canvas itself makes it slow
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(this.#canvas, 0, 0, width, height);
    return copy.getImageData(0, 0, width, height).data.some((value) => value > 24); // ink is black: only alpha is not 0
  }

  /** Give the canvas the picture's shape. A drawing on a square stays whole, around the middle. */
  setShape(width, height) {
    const scale = LONG_SIDE / Math.max(width, height);
    const size = [Math.round(width * scale), Math.round(height * scale)];
    if (size.join() === this.size.join()) return;
    [this.#canvas.width, this.#canvas.height] = size;
    this.#repaint();
  }

  /** Canvas pixels for one unit. The short side is 1024 units, so a square fits into every shape. */
  get #scale() {
    return Math.min(...this.size) / LONG_SIDE;
  }

  undo() {
    this.#shift(this.#actions, this.#undone);
  }

  redo() {
    this.#shift(this.#undone, this.#actions);
  }

  clear() {
    if (!this.isBlank) this.#add({ kind: "clear" });
  }

  /** Replace the drawing with ink: a canvas, black on transparent. */
  replace(ink) {
    const [width, height] = [ink.width / this.#scale, ink.height / this.#scale];
    this.#add({ kind: "picture", ink, width, height });
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

  #add(action) {
    this.#actions.push(action);
    this.#undone = [];
    this.#repaint();
  }

  #shift(from, to) {
    if (this.#stroke || !from.length) return;
    to.push(from.pop());
    this.#repaint();
  }

  // ---- pointers

  #press(event) {
    const isEraserEnd = event.button === 5;
    if (this.#pointer !== null || (event.button !== 0 && !isEraserEnd)) return;
    this.#liftPen();
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(isEraserEnd ? "eraser" : this.tool, this.#point(event));
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) this.#extend(this.#point(each));
  }

  #lift(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#finish();
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    const [width, height] = this.size;
    return {
      x: (((event.clientX - box.left) / box.width - 0.5) * width) / this.#scale,
      y: (((event.clientY - box.top) / box.height - 0.5) * height) / this.#scale,
      width: event.pointerType === "pen" && event.pressure ? this.width * (0.35 + 1.1 * event.pressure) : this.width,
    };
  }

  // ---- the keyboard

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const step = event.shiftKey ? KEY_STEP / 4 : KEY_STEP;
      const [right, bottom] = this.size.map((side) => side / 2 / this.#scale);
      this.#pen.x = Math.min(right, Math.max(-right, this.#pen.x + arrow[0] * step));
      this.#pen.y = Math.min(bottom, Math.max(-bottom, this.#pen.y + arrow[1] * step));
      if (this.#pen.isDown) this.#extend({ x: this.#pen.x, y: this.#pen.y, width: this.width });
    } else if (event.key === " ") {
      if (this.#pen.isDown) this.#finish();
      else this.#begin(this.tool, { x: this.#pen.x, y: this.#pen.y, width: this.width });
      this.#pen.isDown = !this.#pen.isDown;
    } else return;
    event.preventDefault();
    this.#showPen(true);
  }

  #liftPen() {
    if (this.#pen.isDown) this.#finish();
    this.#pen.isDown = false;
    this.#showPen(false);
  }

  #showPen(isShown) {
    const [width, height] = this.size.map((side) => side / this.#scale);
    this.#crosshair.hidden = !isShown;
    this.#crosshair.classList.toggle("down", this.#pen.isDown);
    this.#crosshair.style.left = `${(this.#pen.x / width + 0.5) * 100}%`;
    this.#crosshair.style.top = `${(this.#pen.y / height + 0.5) * 100}%`;
  }

  // ---- strokes

  #begin(tool, point) {
    this.#stroke = { kind: "stroke", tool, points: [point] };
    this.#paintDot(this.#stroke);
  }

  #extend(point) {
    const { points } = this.#stroke;
    const last = points.at(-1);
    if (Math.hypot(point.x - last.x, point.y - last.y) < 1.5) return;
    points.push(point);
    this.#paintSegment(this.#stroke, points.length - 1);
  }

  #finish() {
    this.#add(this.#stroke);
    this.#stroke = null;
    this.dispatchEvent(new Event("change"));
  }

  // ---- paint

  #firstVisible() {
    const last = this.#actions.findLastIndex((action) => action.kind !== "stroke");
    return last < 0 ? 0 : last;
  }

  #repaint() {
    this.#ink.clearRect(0, 0, ...this.size);
    for (const action of this.#actions.slice(this.#firstVisible())) {
      if (action.kind === "picture") {
        const { ink, width, height } = action;
        this.#centred("brush", () => this.#ink.drawImage(ink, -width / 2, -height / 2, width, height));
      } else if (action.kind === "stroke") this.#paintStroke(action);
    }
    this.dispatchEvent(new Event("change"));
  }

  #centred(tool, paint) {
    this.#ink.save();
    this.#ink.translate(this.size[0] / 2, this.size[1] / 2);
    this.#ink.scale(this.#scale, this.#scale);
    this.#ink.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
    this.#ink.lineCap = this.#ink.lineJoin = "round";
    paint();
    this.#ink.restore();
  }

  #paintStroke(stroke) {
    this.#paintDot(stroke);
    for (let index = 1; index < stroke.points.length; index++) this.#paintSegment(stroke, index);
  }

  #paintDot({ tool, points: [point] }) {
    this.#centred(tool, () => {
      this.#ink.beginPath();
      this.#ink.arc(point.x, point.y, point.width / 2, 0, 2 * Math.PI);
      this.#ink.fill();
    });
  }

  /** A curve between the midpoints of two segments, and a line to the newest point, so that ink follows the pen at once. */
  #paintSegment({ tool, points }, index) {
    const [before, from, to] = [points[Math.max(0, index - 2)], points[index - 1], points[index]];
    this.#centred(tool, () => {
      this.#ink.lineWidth = (from.width + to.width) / 2;
      this.#ink.beginPath();
      this.#ink.moveTo((before.x + from.x) / 2, (before.y + from.y) / 2);
      this.#ink.quadraticCurveTo(from.x, from.y, (from.x + to.x) / 2, (from.y + to.y) / 2);
      if (index === points.length - 1) this.#ink.lineTo(to.x, to.y);
      this.#ink.stroke();
    });
  }
}
