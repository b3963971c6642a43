// SPDX-License-Identifier: Apache-2.0
// The buttons of the finished picture.

import { CannotExport, converted, copy, copyText, save } from "./export.js";
import { keepFocus } from "./focus.js";
import { linkTo } from "./share.js";

const SCALES = [1, 2, 4];

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

/** Dispatches `again` for another seed, and `reuse` to draw on the picture's outlines. */
export class ResultActions extends EventTarget {
  #shown = null; // the history entry whose picture is in the pane
  #exported = null; // the history entry that the open dialog saves
  #isBusy = false;
  #message;

  /** `message`: the one on the picture. */
  constructor(message) {
    super();
    this.#message = message;
    on("again", "click", () => this.dispatchEvent(new Event("again")));
    on("reuse", "click", () => this.dispatchEvent(new CustomEvent("reuse", { detail: this.#shown })));
    on("download", "click", () => save(this.#shown.picture, this.#shown)); // the file itself, with its receipt
    on("copy", "click", () => this.#try(() => copy(this.#shown.picture), "The picture is copied."));
    on("share", "click", () => this.#try(() => this.#share(), "The link is copied. It has the prompt, the settings, and the scribble if it is small."));
    on("save-as", "click", () => this.#openExport());
    on("export-cancel", "click", () => byId("export").close());
    on("export-save", "click", () => this.#try(() => this.#export()));
  }

  /** The entry in the pane; null for none, or while a picture is unfinished. */
  show(entry) {
    this.#shown = entry;
    this.#update();
  }

  busy(isBusy) {
    this.#isBusy = isBusy;
    this.#update();
  }

  #update() {
    keepFocus(() => {
      for (const id of ["again", "reuse", "download", "copy", "share", "save-as"]) {
        byId(id).disabled = !this.#shown || (this.#isBusy && id === "again");
      }
    });
  }

  async #share() {
    const { prompt, values, seed, scribble } = this.#shown;
    await copyText(await linkTo(location.href, { prompt, values: { ...values, seed }, scribble }));
  }

  async #openExport() {
    this.#exported = this.#shown; // the next picture may begin while the dialog is open
    const { width, height } = await createImageBitmap(this.#exported.picture);
    const options = SCALES.map((scale) => new Option(`${width * scale} × ${height * scale}`, scale));
    byId("export-size").replaceChildren(...options);
    byId("export").showModal();
  }

  async #export() {
    byId("export").close();
    const scale = Number(byId("export-size").value);
    const entry = this.#exported;
    const file = await converted(entry.picture, byId("export-format").value, scale);
    save(file, entry, scale > 1 ? `-${scale}x` : "");
  }

  async #try(action, done) {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof CannotExport)) throw error;
      this.#message.error(error.message);
      return;
    }
    if (done) this.#message.noteBriefly(done);
  }
}
