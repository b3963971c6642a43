// SPDX-License-Identifier: Apache-2.0
// The pane with the picture: previews that become sharper, the progress with the time left, and the result.

import { duration } from "./messages.js";

const SECONDS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const HALF_WAY = 0.5;

export class PicturePane {
  #image;
  #frame;
  #caption;
  #progress;
  #spoken;
  #shownUrl = null;
  #began = 0;
  #firstStepAt = null;
  #step = 0;
  #numSteps = 0;

  constructor({ image, frame, caption, progress, spoken }) {
    this.#image = image;
    this.#frame = frame;
    this.#caption = caption;
    this.#progress = progress;
    this.#spoken = spoken;
  }

  /** Whether the unfinished picture is visible. */
  get hasPreview() {
    return this.#frame.dataset.state === "preview";
  }

  /** "step 5 of 12", or "" before the first step */
  get stepText() {
    return this.#step ? `step ${this.#step} of ${this.#numSteps}` : "";
  }

  begin() {
    this.#began = performance.now();
    this.#firstStepAt = null;
    this.#step = this.#numSteps = 0;
    this.#state("waiting");
    this.#progress.hidden = false;
    this.#progress.removeAttribute("value");
    this.#caption.textContent = "Sent …";
    this.#spoken.textContent = "Drawing.";
  }

  /** While it waits for its turn. */
  queued({ position, estimated_wait_s: waitS, estimated_total_s: totalS }) {
    const number = position && waitS !== 0 ? `: number ${position} in the queue` : " to start";
    const left = totalS === undefined ? "" : `, about ${totalS < 1 ? "1 s" : duration(totalS)} left`;
    this.#caption.textContent = `Waiting${number}${left} …`;
  }

  advance({ step, num_steps: numSteps, preview }) {
    const now = performance.now();
    this.#firstStepAt ??= { now, step };
    [this.#step, this.#numSteps] = [step, numSteps];
    this.#progress.max = numSteps;
    this.#progress.value = step;
    const done = step - this.#firstStepAt.step;
    const left = done ? (((now - this.#firstStepAt.now) / done) * (numSteps - step)) / 1000 : null;
    const text = `Step ${step} of ${numSteps}`;
    this.#progress.ariaValueText = text;
    this.#caption.textContent = left === null ? text : `${text} · ${left < 1 ? "less than 1 s" : duration(left)} left`;
    if (step >= numSteps * HALF_WAY && step - 1 < numSteps * HALF_WAY) this.#spoken.textContent = "Halfway there.";
    if (preview) this.#preview(preview, step / numSteps);
  }

  #preview(base64, share) {
    this.#show(blobOf(base64), "Preview of the picture");
    this.#frame.style.setProperty("--blur", `${(1.5 + 9 * (1 - share)).toFixed(1)}px`);
    this.#state("preview");
  }

  /** Show the finished picture. Returns the seconds since `begin`. */
  complete(blob, { prompt, seed }) {
    const seconds = (performance.now() - this.#began) / 1000;
    this.show(blob, { prompt, seed, seconds });
    this.#spoken.textContent = `The picture is ready after ${duration(seconds)}.`;
    return seconds;
  }

  /** Show a finished picture. */
  show(blob, { prompt, seed, seconds }) {
    this.#show(blob, prompt);
    this.#state("done");
    this.#progress.hidden = true;
    this.#caption.textContent = `Seed ${seed} · ${SECONDS.format(seconds)} s`;
  }

  /** It ended without a picture. The last preview stays, marked as unfinished. */
  end(text) {
    this.#progress.hidden = true;
    this.#caption.textContent = text;
    this.#spoken.textContent = text;
    if (this.hasPreview) this.#state("broken");
    else this.#state(this.#shownUrl ? "done" : "empty");
  }

  #show(blob, alt) {
    const old = this.#shownUrl;
    this.#shownUrl = URL.createObjectURL(blob);
    if (old) this.#image.addEventListener("load", () => URL.revokeObjectURL(old), { once: true });
    this.#image.src = this.#shownUrl;
    this.#image.alt = alt;
    this.#image.hidden = false;
  }

  #state(state) {
    this.#frame.dataset.state = state;
  }
}

/** Base64 text as a picture file. */
export function blobOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: typeOf(bytes) });
}

function typeOf(bytes) {
  if (bytes[0] === 0x89) return "image/png";
  return bytes[0] === 0xff ? "image/jpeg" : "image/webp";
}
