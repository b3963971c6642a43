// SPDX-License-Identifier: Apache-2.0
// The picture of which the next pictures paint a region only, and the mask that marks the region.

const TEXT = "The next picture paints only the marked region of an earlier one.";

/** Dispatches `change` when `files` changes. */
export class InitImage extends EventTarget {
  /** Files for a request, by field: `init_image` and `mask`. Empty if whole pictures are painted. */
  files = {};
  #host;
  #text;
  #accepted;

  /** `host` shows that there is such a picture, as `text` with the button `drop`. `accepted`: the endpoint's fields. */
  constructor({ host, text, drop, accepted }) {
    super();
    [this.#host, this.#text, this.#accepted] = [host, text, accepted];
    drop.addEventListener("click", () => this.replace({}));
  }

  replace(files = {}) {
    const isAccepted = Object.keys(files).every((name) => this.#accepted.includes(name));
    this.files = isAccepted ? files : {};
    this.#host.hidden = !this.files.init_image;
    this.#text.textContent = TEXT; // a status is read aloud when its text is set
    this.dispatchEvent(new Event("change"));
  }
}
