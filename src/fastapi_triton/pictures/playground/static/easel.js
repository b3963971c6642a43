// SPDX-License-Identifier: Apache-2.0
// The canvas with everything that acts on it: pointers, the keyboard's pen, the brush's ring, and the view.

import { KeyboardPen } from "./keyboard_pen.js";
import { Navigation } from "./navigation.js";
import { Pointers } from "./pointers.js";
import { Ring } from "./ring.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);

/** Connects a `Scribble` and its `Toolbar` to the elements of the canvas. */
export function setUpEasel(scribble, toolbar) {
  const canvas = byId("scribble");
  const view = new View(byId("paper"), byId("layers"));
  const navigation = new Navigation(canvas, view, (timeStamp) => pointers.interrupt(timeStamp));
  const pen = new KeyboardPen(canvas, byId("crosshair"), scribble);
  const pointers = new Pointers(canvas, scribble);
  const ring = new Ring(byId("ring"), canvas, scribble);
  pen.addEventListener("move", ({ detail }) => view.reveal(detail.x, detail.y));
  navigation.addEventListener("width", ({ detail }) => toolbar.scaleWidth(detail));
  navigation.addEventListener("hand", () => ring.update());
  toolbar.addEventListener("brush", () => ring.update());
  byId("width").addEventListener("input", () => ring.preview());
  for (const name of ["change", "blur"]) byId("width").addEventListener(name, () => ring.endPreview());
  byId("zoom").addEventListener("click", () => {
    view.reset();
    canvas.focus();
  });
  view.addEventListener("change", () => {
    byId("zoom").hidden = view.isWhole;
    byId("zoom").textContent = `${Math.round(100 * view.zoom)}%`;
    byId("zoom").ariaLabel = `Zoom is ${Math.round(100 * view.zoom)}%. Back to 100%`;
    ring.update();
  });
}
