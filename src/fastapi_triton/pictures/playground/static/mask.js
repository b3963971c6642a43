// SPDX-License-Identifier: Apache-2.0
// The region of the finished picture that is to be painted anew, marked with a brush.

import { encode } from "./encoder.js";
import { keepFocus } from "./focus.js";
import { KeyboardPen } from "./keyboard_pen.js";
import { Pointers } from "./pointers.js";
import { Scribble } from "./scribble.js";

/** Dispatches `paint` to paint the region anew, and `close`. */
export class Mask extends EventTarget {
  #host;
  #tools;
  #mark;
  #image;
  #entry = null; // the history entry whose picture is in the pane

  /**
   * `host` has the canvas and the keyboard's pen, above the picture, which `image` shows. `tools`: by name, and the `bar`
   * that has them.
   */
  constructor({ host, canvas, pen, image, tools }) {
    super();
    [this.#host, this.#tools, this.#image, this.#mark] = [host, tools, image, new Scribble(canvas)];
    new KeyboardPen(canvas, pen, this.#mark);
    new Pointers(canvas, this.#mark);
    tools.open.addEventListener("click", () => this.#toggle(!this.isOpen));
    tools.leave.addEventListener("click", () => this.close());
    tools.undo.addEventListener("click", () => this.#mark.undo());
    tools.clear.addEventListener("click", () => this.#mark.clear());
    tools.paint.addEventListener("click", () => this.dispatchEvent(new Event("paint")));
    tools.width.addEventListener("input", () => this.#resize());
    this.#mark.addEventListener("change", () => this.#update());
    for (const each of [host, tools.bar]) each.addEventListener("keydown", (event) => this.#key(event));
    this.#resize();
  }

  get isOpen() {
    return !this.#host.hidden;
  }

  /** Whether a region is marked. */
  get isMarked() {
    return this.isOpen && (this.#mark.isDrawing || !this.#mark.isBlank);
  }

  /** The history entry in the pane; null for none. */
  show(entry) {
    if (entry !== this.#entry) this.close();
    this.#entry = entry;
    keepFocus(() => (this.#tools.open.disabled = !entry));
  }

  close() {
    if (!this.isOpen) return;
    const hadFocus = [this.#host, this.#tools.bar].some((each) => each.contains(document.activeElement));
    this.#toggle(false);
    if (hadFocus) this.#tools.open.focus();
  }

  /** What a request needs to paint the region anew: its `fields`, and its picture `files`. */
  async request() {
    const { picture, values } = this.#entry; // the mask may be closed meanwhile
    const marks = await this.#mark.toBlob(Infinity);
    const { width, height } = await createImageBitmap(picture);
    const sheet = new OffscreenCanvas(width, height);
    const context = sheet.getContext("2d");
    context.drawImage(await createImageBitmap(marks), 0, 0, width, height);
    context.globalCompositeOperation = "difference"; // the marks are black on white; a mask is white on black
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    return {
      fields: { width: values.width ?? String(width), height: values.height ?? String(height) },
      files: { init_image: picture, mask: await encode(sheet) },
    };
  }

  #toggle(isOpen) {
    this.#host.hidden = this.#tools.bar.hidden = !isOpen;
    this.#tools.open.ariaPressed = String(isOpen);
    this.#mark.empty();
    if (!isOpen) {
      this.dispatchEvent(new Event("close"));
      return;
    }
    const { width = this.#image.naturalWidth, height = this.#image.naturalHeight } = this.#entry.values;
    this.#mark.setShape(Number(width), Number(height));
    this.#host.style.setProperty("--ratio", String(width / height)); // the frame's may differ
    this.#host.querySelector("canvas").focus();
  }

  #resize() {
    this.#mark.width = Number(this.#tools.width.value);
  }

  #update() {
    keepFocus(() => {
      this.#tools.undo.disabled = !this.#mark.canUndo;
      this.#tools.clear.disabled = this.#tools.paint.disabled = this.#mark.isBlank;
    }, this.#host.querySelector("canvas"));
  }

  #key(event) {
    const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
    if (isUndo) event.shiftKey ? this.#mark.redo() : this.#mark.undo();
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation(); // the page's own shortcuts act on the scribble
  }
}
