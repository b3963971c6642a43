// SPDX-License-Identifier: Apache-2.0
// The picture that the next pictures start from, if they do, and the mask that selects its region to paint.

const TEXTS = {
  mask: ["The next picture paints only the marked region of an earlier one.", "Paint everything"],
  init_image: ["The next picture starts from an earlier one.", "Start without it"],
};

/** Dispatches `change` when `files` changes. */
export class InitImage extends EventTarget {
  /** Files for a request, by field: `init_image`, and `mask` if only a region is painted. Empty if pictures start from noise. */
  files = {};
  #host;
  #text;
  #drop;
  #accepted;

  /** `host` shows that there is such a picture, as `text` with the button `drop`. `accepted`: the endpoint's fields. */
  constructor({ host, text, drop, accepted }) {
    super();
    [this.#host, this.#text, this.#drop, this.#accepted] = [host, text, drop, accepted];
    drop.addEventListener("click", () => this.replace({}));
  }

  replace(files = {}) {
    const isAccepted = Object.keys(files).every((name) => this.#accepted.includes(name));
    this.files = isAccepted ? files : {};
    this.#host.hidden = !this.files.init_image;
    [this.#text.textContent, this.#drop.textContent] = TEXTS[this.files.mask ? "mask" : "init_image"];
    this.dispatchEvent(new Event("change"));
  }
}
