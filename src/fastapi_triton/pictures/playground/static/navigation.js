// SPDX-License-Identifier: Apache-2.0
// Moves the view of the canvas: wheel, two fingers, the middle button, Space with the mouse, and keys.

const WHEEL_ZOOM = 0.01;
const WHEEL_WIDTH = 0.0016;
const LARGEST_WHEEL = 25; // a notch of a mouse wheel counts as much as a fast pinch on a touchpad
const LINE_PIXELS = 16; // of a wheel that counts in lines
const SCROLL_MS = 400; // a page that is being scrolled goes on scrolling when the canvas comes below the pointer
const KEYS = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 };

/** Dispatches `width` with the factor by which the wheel changes the brush (detail), and `hand` when the cursor changes. */
export class Navigation extends EventTarget {
  #canvas;
  #view;
  #interrupt;
  #fingers = new Map(); // those on the screen, by pointer id
  #isPinching = false; // until all fingers are lifted
  #dragged = null; // the mouse that moves the view
  #isSpaceHeld = false;
  #hasDragged = false; // since Space was pressed
  #scrolledAt = -Infinity;

  /**
   * It stops the events that it uses, so it must listen before others do.
   *
   * `interrupt`: takes back a stroke that has just begun; returns whether nothing is drawn now.
   */
  constructor(canvas, view, interrupt) {
    super();
    this.#canvas = canvas;
    this.#view = view;
    this.#interrupt = interrupt;
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    window.addEventListener("scroll", ({ timeStamp }) => (this.#scrolledAt = timeStamp), { passive: true });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault()); // no automatic scrolling
    canvas.addEventListener("keydown", (event) => this.#keydown(event));
    canvas.addEventListener("keyup", (event) => this.#keyup(event));
    canvas.addEventListener("blur", () => this.#holdSpace(false));
  }

  #wheel(event) {
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : LINE_PIXELS;
    const [dx, dy] = [event.deltaX * pixels, event.deltaY * pixels];
    if (event.ctrlKey) {
      const amount = Math.min(LARGEST_WHEEL, Math.max(-LARGEST_WHEEL, dy));
      this.#view.zoomBy(Math.exp(-amount * WHEEL_ZOOM), event.clientX, event.clientY);
    } else if (event.timeStamp - this.#scrolledAt < SCROLL_MS) return;
    else if (Math.abs(dx) > Math.abs(dy)) this.#view.panBy(-dx, 0);
    else this.dispatchEvent(new CustomEvent("width", { detail: Math.exp(-dy * WHEEL_WIDTH) }));
    event.preventDefault();
  }

  // ---- pointers

  #down(event) {
    if (event.pointerType === "touch") {
      if (this.#fingers.size === 0) this.#isPinching = false;
      this.#fingers.set(event.pointerId, event);
      if (!this.#isPinching && this.#fingers.size > 1) this.#isPinching = this.#interrupt(event.timeStamp);
      if (this.#isPinching) this.#take(event);
    } else if (event.button === 1 || (event.button === 0 && this.#isSpaceHeld)) {
      this.#dragged = event;
      this.#hasDragged = true;
      this.#mark();
      this.#take(event);
    }
  }

  #move(event) {
    if (this.#dragged?.pointerId === event.pointerId) {
      this.#view.panBy(event.clientX - this.#dragged.clientX, event.clientY - this.#dragged.clientY);
      this.#dragged = event;
    } else if (this.#isPinching && this.#fingers.has(event.pointerId)) this.#pinch(event);
    else {
      if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, event);
      return;
    }
    event.stopImmediatePropagation();
  }

  /** The points below the two fingers stay below them. A canvas that is wholly visible scrolls the page instead. */
  #pinch(event) {
    const before = middle(this.#fingers);
    this.#fingers.set(event.pointerId, event);
    const after = middle(this.#fingers);
    const { isWhole } = this.#view;
    if (before.spread && after.spread) this.#view.zoomBy(after.spread / before.spread, before.x, before.y);
    if (isWhole && this.#view.isWhole) window.scrollBy({ top: before.y - after.y, behavior: "instant" });
    else this.#view.panBy(after.x - before.x, after.y - before.y);
  }

  #up(event) {
    const isUsed = this.#dragged?.pointerId === event.pointerId || (this.#isPinching && this.#fingers.has(event.pointerId));
    if (this.#dragged?.pointerId === event.pointerId) this.#dragged = null;
    this.#fingers.delete(event.pointerId);
    this.#mark();
    if (isUsed) event.stopImmediatePropagation();
  }

  #take(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    event.stopImmediatePropagation();
  }

  // ---- keys

  #keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && !event.repeat) this.#holdSpace(true);
    else if (event.key === "0") this.#view.reset();
    else if (KEYS[event.key]) this.#view.zoomMiddle(KEYS[event.key]);
  }

  #keyup(event) {
    if (event.key !== " ") return;
    if (this.#hasDragged) event.stopImmediatePropagation(); // it does not lower the keyboard's pen
    this.#holdSpace(false);
  }

  #holdSpace(isHeld) {
    this.#isSpaceHeld = isHeld;
    this.#hasDragged = false;
    this.#mark();
  }

  /** For the cursor: `movable` while Space is held, `moving` while the view is dragged. */
  #mark() {
    this.#canvas.dataset.hand = this.#dragged ? "moving" : this.#isSpaceHeld ? "movable" : "";
    this.dispatchEvent(new Event("hand"));
  }
}

/** The middle of the fingers, and their mean distance from it. */
function middle(fingers) {
  const points = [...fingers.values()];
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(points.map((point) => point.clientX)), mean(points.map((point) => point.clientY))];
  return { x, y, spread: mean(points.map((point) => Math.hypot(point.clientX - x, point.clientY - y))) };
}
