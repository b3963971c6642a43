// SPDX-License-Identifier: Apache-2.0
// The tools of the canvas: buttons, keys, and pictures that are loaded, pasted or dropped.

import { keepFocus } from "./focus.js";
import { NotAPicture, inkOf, open } from "./ink.js";

const WIDTH_STEP = 4;
const TOOL_KEYS = { b: "brush", e: "eraser", f: "fill" };

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

/** Dispatches `brush` when the tool or its width changes. */
export class Toolbar extends EventTarget {
  #scribble;
  #message;
  #restore;

  /** `message`: the one beside the canvas. `restore(file)` returns whether it used a picture instead. */
  constructor({ scribble, message, restore }) {
    super();
    this.#scribble = scribble;
    this.#message = message;
    this.#restore = restore;
    on("brush", "click", () => this.#choose("brush"));
    on("eraser", "click", () => this.#choose("eraser"));
    on("fill", "click", () => this.#choose("fill"));
    on("width", "input", () => this.#setWidth(Number(byId("width").value)));
    on("undo", "click", () => scribble.undo());
    on("redo", "click", () => scribble.redo());
    on("clear", "click", () => {
      scribble.clear();
      this.#choose("brush"); // there is nothing to erase
      message.note("The canvas is cleared.", { label: "Undo", run: () => this.#undoClear() });
    });
    on("load", "click", () => byId("file").click());
    on("file", "change", ({ target }) => {
      if (target.files[0]) this.#receive(target.files[0]);
      target.value = "";
    });
    on("scribble", "pointerdown", () => {
      byId("invitation").hidden = true;
      message.clear();
    });
    for (const name of ["change", "cancel"]) scribble.addEventListener(name, () => this.#update());
    document.addEventListener("keydown", (event) => this.#key(event));
    this.#connectClipboard();
    this.#connectDrops();
  }

  /** Make a picture the scribble. `how`: "outlines" to trace it; by default the picture decides. */
  async load(file, how) {
    this.#message.clear();
    try {
      const { ink, isTraced } = inkOf(await open(file), this.#scribble.size, how);
      await this.#scribble.load(ink);
      if (isTraced && !how) this.#message.note("This is not a line drawing, so the page traced its outlines. Press Undo to remove them.");
    } catch (error) {
      if (!(error instanceof NotAPicture)) throw error;
      this.#message.error(error.message);
    }
  }

  #undoClear() {
    this.#scribble.undo();
    byId("scribble").focus();
  }

  async #receive(file) {
    if (!(await this.#restore(file))) await this.load(file);
  }

  #choose(tool) {
    this.#scribble.tool = tool;
    for (const each of Object.values(TOOL_KEYS)) byId(each).ariaPressed = String(each === tool);
    this.#send("brush");
  }

  /** Make the brush wider by this factor. */
  scaleWidth(factor) {
    this.#setWidth(this.#scribble.width * factor);
  }

  #setWidth(width) {
    const { min, max } = byId("width");
    this.#scribble.width = Math.min(max, Math.max(min, width));
    byId("width").value = Math.round(this.#scribble.width);
    this.#send("brush");
  }

  #send(name) {
    this.dispatchEvent(new Event(name));
  }

  #update() {
    const { canUndo, canRedo, isBlank } = this.#scribble;
    keepFocus(() => {
      byId("undo").disabled = !canUndo;
      byId("redo").disabled = !canRedo;
      byId("clear").disabled = isBlank;
    }, byId("scribble"));
    byId("invitation").hidden = !isBlank;
    byId("scribble").ariaLabel = isBlank ? "Scribble, empty" : "Scribble, not empty";
    if (!isBlank) this.#message.clear();
  }

  #key(event) {
    const isTyping = event.target.matches("input:not([type=range]), textarea, select");
    const key = event.key.toLowerCase();
    const withCtrl = event.ctrlKey || event.metaKey;
    if (withCtrl && !isTyping && key === "z") event.shiftKey ? this.#scribble.redo() : this.#scribble.undo();
    else if (withCtrl && !isTyping && key === "y") this.#scribble.redo();
    // Single letters only while the canvas has the focus: elsewhere they are typed text, or a screen reader's shortcuts.
    else if (event.target !== byId("scribble") || withCtrl) return;
    else if (TOOL_KEYS[key]) this.#choose(TOOL_KEYS[key]);
    else if (key === "[" || key === "]") this.#setWidth(this.#scribble.width + (key === "[" ? -WIDTH_STEP : WIDTH_STEP));
    else return;
    event.preventDefault();
  }

  #connectClipboard() {
    document.addEventListener("paste", (event) => {
      const file = event.clipboardData.files[0];
      const isText = event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain");
      if (!file || isText) return; // the text field pastes text itself
      event.preventDefault();
      this.#receive(file);
    });
  }

  #connectDrops() {
    for (const name of ["dragenter", "dragover"]) {
      document.addEventListener(name, (event) => {
        if (!event.dataTransfer.types.includes("Files")) return;
        event.preventDefault();
        byId("paper").classList.add("dropping");
      });
    }
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) byId("paper").classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      byId("paper").classList.remove("dropping");
      if (!event.dataTransfer.files[0]) return;
      event.preventDefault();
      this.#receive(event.dataTransfer.files[0]);
    });
  }
}
