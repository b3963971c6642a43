// SPDX-License-Identifier: Apache-2.0
// The switch of live mode, which this browser remembers, and the note beside it.

import { countDown } from "./countdown.js";
import { duration } from "./messages.js";

const CHOICE = "live"; // in localStorage: "on" or "off"
const NOTES = {
  busy: "The server is busy. Live drawing goes on in",
  slow: "Drafts are slow at the moment. Live drawing goes on in",
};

export class LiveSwitch {
  #live;
  #button;
  #note;
  #left;
  #need = "";
  #stopCounting = () => {};

  /** `note` is read out; `left`, the seconds, is not. */
  constructor({ live, button, note, left }) {
    this.#live = live;
    this.#button = button;
    this.#note = note;
    this.#left = left;
    live.addEventListener("change", () => this.#update());
    live.addEventListener("unfit", () => {
      note.textContent = "Live drawing is off, because drafts take more than 2 s here. Press Draw for a picture.";
    });
    button.addEventListener("click", () => {
      note.textContent = "";
      if (live.isOn) live.turnOff();
      else {
        live.turnOn({ isWanted: true });
        live.changed();
      }
      remember(live.isOn ? "on" : "off");
    });
  }

  /** Show the switch if the model makes drafts, and turn live mode on unless the person turned it off. */
  offer(isPossible) {
    if (this.#button.hidden && isPossible && remembered() !== "off") this.#live.turnOn({ isWanted: remembered() === "on" });
    if (!isPossible) this.#live.turnOff();
    this.#button.hidden = !isPossible;
  }

  /** What a person still has to do before live mode can draw; "" for nothing. */
  needs(text) {
    if (text === this.#need) return;
    this.#need = text;
    this.#update();
  }

  #update() {
    const { isOn, rest } = this.#live;
    this.#button.ariaChecked = String(isOn);
    this.#stopCounting();
    if (rest) {
      this.#note.textContent = NOTES[rest.reason];
      this.#stopCounting = countDown(rest.seconds, (seconds) => {
        this.#left.textContent = `${duration(seconds)}.`;
      });
    } else {
      this.#left.textContent = "";
      if (isOn) this.#note.textContent = this.#need;
    }
  }
}

function remember(choice) {
  try {
    localStorage.setItem(CHOICE, choice);
  } catch {
    // The browser stores nothing: the choice is lost when the page is closed.
  }
}

function remembered() {
  try {
    return localStorage.getItem(CHOICE);
  } catch {
    return null;
  }
}
