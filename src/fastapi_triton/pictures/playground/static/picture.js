// SPDX-License-Identifier: Apache-2.0
// The pane with the picture: previews that become sharper, the progress with the time left, and the result.

import { countDown } from "./countdown.js";
import { duration } from "./messages.js";

const SECONDS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const HALF_WAY = 0.5;
const FADE_MS = 140;

export class PicturePane {
  #image;
  #frame;
  #caption;
  #progress;
  #spoken;
  #notes;
  #stopCounting = () => {};
  #shownUrl = null;
  #began = 0;
  #firstStepAt = null;
  #step = 0;
  #numSteps = 0;
  #kind = "asked";
  #fading = null;

  constructor({ image, frame, caption, progress, spoken, notes }) {
    this.#image = image;
    this.#frame = frame;
    this.#caption = caption;
    this.#progress = progress;
    this.#spoken = spoken;
    this.#notes = notes;
  }

  /** Whether the unfinished picture is visible. */
  get hasPreview() {
    return this.#frame.dataset.state === "preview";
  }

  /** "step 5 of 12", or "" before the first step */
  get stepText() {
    return this.#step ? `step ${this.#step} of ${this.#numSteps}` : "";
  }

  /** `kind`: "asked" by a person, or in live mode "drafting" or "finishing": then the picture before stays until the next. */
  begin(kind = "asked") {
    this.#kind = kind;
    if (kind === "asked") this.#notes.textContent = "";
    this.#began = performance.now();
    this.#firstStepAt = null;
    this.#step = this.#numSteps = 0;
    this.#progress.hidden = kind === "drafting";
    this.#progress.removeAttribute("value");
    if (kind !== "asked") return; // nothing that flickers or is read out with each stroke
    this.#state("waiting");
    this.#caption.textContent = "Sent …";
    this.#spoken.textContent = "Drawing.";
  }

  /** While it waits for its turn. The seconds count down between two events. */
  queued({ position, estimated_wait_s: waitS, estimated_total_s: totalS }) {
    this.#stopCounting();
    if (this.#kind === "drafting") return;
    const text = `Waiting${position && waitS !== 0 ? `: number ${position} in the queue` : " to start"}`;
    this.#caption.textContent = `${text} …`;
    if (totalS === undefined) return;
    this.#stopCounting = countDown(Math.max(1, totalS), (left) => {
      this.#caption.textContent = `${text}, about ${duration(left)} left …`;
    }, () => {
      this.#caption.textContent = `${text} …`;
    });
  }

  advance({ step, num_steps: numSteps, preview }) {
    this.#stopCounting();
    const now = performance.now();
    this.#firstStepAt ??= { now, step };
    [this.#step, this.#numSteps] = [step, numSteps];
    this.#progress.max = numSteps;
    this.#progress.value = step;
    const done = step - this.#firstStepAt.step;
    const left = done ? (((now - this.#firstStepAt.now) / done) * (numSteps - step)) / 1000 : null;
    const text = `Step ${step} of ${numSteps}`;
    this.#progress.ariaValueText = text;
    if (preview && this.#kind !== "finishing") this.#preview(preview, step / numSteps);
    if (this.#kind === "drafting") return;
    this.#caption.textContent = left === null ? text : `${text} · ${left < 1 ? "less than 1 s" : duration(left)} left`;
    const isHalfWay = step >= numSteps * HALF_WAY && step - 1 < numSteps * HALF_WAY;
    if (isHalfWay && this.#kind === "asked") this.#spoken.textContent = "Halfway there.";
  }

  #preview(base64, share) {
    this.#show(blobOf(base64), "Preview of the picture");
    const blur = this.#kind === "drafting" ? 0 : 1.5 + 9 * (1 - share); // on a CPU, blurring takes time from the draft
    this.#frame.style.setProperty("--blur", `${blur.toFixed(1)}px`);
    this.#state("preview");
  }

  /** Show the finished picture. Returns the seconds since `begin`. */
  complete(blob, { prompt, seed, notes }) {
    const seconds = (performance.now() - this.#began) / 1000;
    this.show(blob, { prompt, seed, seconds });
    if (this.#kind === "drafting") this.#caption.textContent = `Draft · seed ${seed}`;
    else this.#spoken.textContent = `The picture is ready after ${duration(seconds)}.`;
    if (this.#kind !== "drafting") this.#notes.textContent = notes.join(" ");
    return seconds;
  }

  /** Show a finished picture. */
  show(blob, { prompt, seed, seconds }) {
    this.#stopCounting();
    this.#notes.textContent = "";
    this.#show(blob, prompt || "Picture");
    this.#state("done");
    this.#progress.hidden = true;
    this.#caption.textContent = seconds ? `Seed ${seed} · ${SECONDS.format(seconds)} s` : `Seed ${seed}`;
  }

  /** It ended without a picture. The last preview stays, marked as unfinished; in live mode another one follows. */
  end(text) {
    this.#stopCounting();
    this.#progress.hidden = true;
    if (this.#kind === "finishing") this.#caption.textContent = text; // it has said the step
    if (this.#kind !== "asked") return;
    this.#caption.textContent = this.#spoken.textContent = text;
    if (this.hasPreview) this.#state("broken");
    else this.#state(this.#shownUrl ? "done" : "empty");
  }

  #show(blob, alt) {
    const old = this.#shownUrl;
    if (old && this.#kind !== "asked") this.#fadeOut();
    this.#shownUrl = URL.createObjectURL(blob);
    if (old) this.#image.addEventListener("load", () => URL.revokeObjectURL(old), { once: true });
    this.#image.src = this.#shownUrl;
    this.#image.alt = alt;
    this.#image.hidden = false;
  }

  /** Keep the picture before on top, and let it fade when the next one is decoded: they never flicker. */
  async #fadeOut() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    this.#fading?.remove();
    const before = this.#image.cloneNode();
    Object.assign(before, { id: "", alt: "" }).className = "before";
    before.style.filter = getComputedStyle(this.#image).filter; // as blurred as it was
    this.#fading = before;
    this.#image.after(before);
    await Promise.resolve(); // the next picture is set
    await this.#image.decode().catch(() => {}); // replaced by a newer one
    await before.animate([{ opacity: 1 }, { opacity: 0 }], FADE_MS).finished.catch(() => {});
    before.remove();
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
