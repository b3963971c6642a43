// SPDX-License-Identifier: Apache-2.0
// The buttons of the finished picture.

const byId = (id) => document.getElementById(id);

/** Dispatches `again` for another seed, and `reuse` to draw on the picture's outlines. */
export class ResultActions extends EventTarget {
  #shown = null; // the history entry whose picture is in the pane
  #isBusy = false;

  constructor() {
    super();
    byId("again").addEventListener("click", () => this.dispatchEvent(new Event("again")));
    byId("reuse").addEventListener("click", () => this.dispatchEvent(new CustomEvent("reuse", { detail: this.#shown })));
    byId("download").addEventListener("click", () => download(this.#shown));
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
    for (const id of ["again", "reuse", "download"]) byId(id).disabled = !this.#shown || (this.#isBusy && id === "again");
  }
}

function download({ picture, prompt, seed }) {
  const name = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60).replace(/^-|-$/g, "");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(picture) });
  link.download = `${name || "picture"}-${seed}.${picture.type.split("/")[1]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
