// SPDX-License-Identifier: Apache-2.0
// Live mode: when to draw, and what, while a person draws. Uses no element of the page, and sends nothing itself.

const PAUSE_MS = 1000; // with a draft to look at, and without a change: then the picture is finished
const SLOW_MS = 2000; // a draft that takes longer does not follow the pen
const FIRST_REST_S = 5;
const LONGEST_REST_S = 60;

/**
 * The states: off, idle, drafting, finishing, and resting while the server is busy or slow.
 *
 * Dispatches `change` when the state changes, and `unfit` when the first draft is slow: then live mode turns itself off,
 * unless a person has turned it on.
 */
export class Live extends EventTarget {
  state = "off";
  /** While resting: why ("busy" or "slow"), and for how many seconds. */
  rest = null;
  /** The same for all drafts of a drawing, so that the picture follows the pen. */
  seed = randomSeed();
  #draw;
  #canDraw;
  #pending = null; // what to draw as soon as possible: "drafting" or "finishing"
  #controller = null; // of the request that runs
  #runsSlowly = false; // the draft that runs has taken too long already
  #isHeld = false; // the pen is down, or a text is typed
  #isDraft = false; // the newest picture is a draft, to be finished after a pause
  #finishTimer = null;
  #restTimer = null;
  #numSlow = 0;
  #isProven = false; // a draft was quick, or a person wants live mode in any case

  /**
   * `draw(kind, signal)` makes a draft ("drafting") or the finished picture ("finishing"). It must resolve when its
   * request has ended, to `{ isCompleted, retryAfter }`. `canDraw()`: whether there is something to draw now.
   */
  constructor({ draw, canDraw }) {
    super();
    this.#draw = draw;
    this.#canDraw = canDraw;
  }

  get isOn() {
    return this.state !== "off";
  }

  /** Whether something is drawn now, or will be without a further change. */
  get isActive() {
    const goesOn = this.rest !== null && (this.#pending !== null || this.#isDraft);
    return this.#controller !== null || this.#finishTimer !== null || goesOn;
  }

  /** `isWanted`: a person wants it, even if it is slow. */
  turnOn({ isWanted = false } = {}) {
    this.#isProven ||= isWanted;
    if (!this.isOn) this.#become("idle");
  }

  turnOff() {
    this.stop();
    this.#become("off");
  }

  /** The drawing, the prompt or a setting has changed: draw it. A request that runs is aborted first. */
  changed() {
    if (!this.isOn) return;
    this.#isHeld = false;
    this.#cancelFinish();
    this.#pending = "drafting";
    if (!this.#runsSlowly) this.#controller?.abort();
    this.#run();
  }

  /** The person draws or types: finish nothing until `changed` or `release`. */
  hold() {
    this.#isHeld = true;
    this.#cancelFinish();
  }

  /** Nothing changed after all. */
  release() {
    this.#isHeld = false;
    this.#finishLater();
  }

  /** Try again to draw what could not be drawn. */
  wake() {
    if (this.isOn) this.#run();
  }

  /** Abort the request that runs, and draw nothing until the next change. */
  stop() {
    this.#pending = null;
    this.#isDraft = false;
    this.#cancelFinish();
    this.#endRest();
    this.#controller?.abort();
  }

  /** Use another seed from now on. */
  renewSeed(seed = randomSeed()) {
    this.seed = seed;
  }

  async #run() {
    await null; // several changes at once are one
    if (this.#controller) return; // the request that runs goes on to what is pending
    while (this.#pending && this.isOn && !this.rest && this.#canDraw()) {
      const kind = this.#pending;
      this.#pending = null;
      await this.#drawOnce(kind);
    }
    if (this.isOn) this.#become(this.rest ? "resting" : "idle");
  }

  async #drawOnce(kind) {
    this.#controller = new AbortController();
    this.#become(kind);
    const slowTimer = kind === "drafting" ? setTimeout(() => this.#isSlow(), SLOW_MS) : null;
    const { signal } = this.#controller;
    const { isCompleted, retryAfter } = await this.#draw(kind, signal).finally(() => {
      clearTimeout(slowTimer);
      this.#controller = null;
    });
    const isNewest = isCompleted && !signal.aborted; // a picture can be completed while it is aborted
    if (isNewest) this.#isDraft = kind === "drafting";
    if (retryAfter) {
      if (!signal.aborted) this.#pending ??= kind; // else a person has pressed Stop, or the newest change is pending
      this.#restFor(retryAfter, "busy");
    } else if (this.#runsSlowly) {
      this.#restFor(Math.min(LONGEST_REST_S, FIRST_REST_S * 2 ** this.#numSlow++), "slow");
    } else if (isNewest) {
      if (this.#isDraft) [this.#isProven, this.#numSlow] = [true, 0];
      this.#finishLater();
    }
    this.#runsSlowly = false;
  }

  /** The draft that runs is slow. Changes no longer abort it: one at a time is enough for a slow server. */
  #isSlow() {
    if (this.#isProven) {
      this.#runsSlowly = true;
      return;
    }
    this.turnOff();
    this.dispatchEvent(new Event("unfit"));
  }

  #finishLater(pauseMs = PAUSE_MS) {
    this.#cancelFinish();
    if (!this.isOn || !this.#isDraft || this.#isHeld || this.#pending || this.#controller) return;
    this.#finishTimer = setTimeout(() => {
      this.#finishTimer = null;
      this.#isDraft = false;
      this.#pending = "finishing";
      this.#run();
    }, pauseMs);
  }

  #cancelFinish() {
    clearTimeout(this.#finishTimer);
    this.#finishTimer = null;
  }

  #restFor(seconds, reason) {
    if (!this.isOn) return;
    this.rest = { reason, seconds };
    this.#restTimer = setTimeout(() => {
      this.#finishLater(0); // if nothing changed meanwhile: a rest is pause enough
      this.#endRest();
      this.#run();
    }, 1000 * seconds);
  }

  #endRest() {
    clearTimeout(this.#restTimer);
    this.rest = null;
    if (this.state === "resting") this.#become("idle");
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

function randomSeed() {
  return String(Math.floor(Math.random() * 2 ** 31));
}
