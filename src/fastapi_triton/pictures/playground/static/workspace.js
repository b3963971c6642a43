// SPDX-License-Identifier: Apache-2.0
// What a person works on in this tab, stored as it changes: it survives a reload, a crash, and closing the tab.

import { ObjectStore, connectTabs, newId } from "./database.js";

const MAX_STORED = 8; // of tabs that were closed; older ones are deleted
const PAUSE_MS = 300; // the first change is stored at once, and those that follow in this time together
const ANSWER_MS = 150; // other tabs answer faster
const NAME = "fastapi-triton-workspace";

/**
 * Each tab has its own work. A new tab goes on with the newest work that is open in no other tab; else it starts empty.
 * Dispatches `change` when `isStored` or `isPending` changes.
 */
export class Workspace extends EventTarget {
  #read;
  #store = new ObjectStore("playground-workspaces", "workspaces");
  #id = tabId() ?? newId();
  #sendToTabs = connectTabs("playground-workspaces", (message) => this.#hear(message));
  #taken = new Set(); // ids of other tabs
  #timer = null;
  #flushedAt = -PAUSE_MS;
  #numWriting = 0;
  #isStarted = false; // before that, storing would replace the work to go on with
  /** Whether the browser could store the work. */
  isStored = true;

  /** `read` returns what to store, or null if there is nothing. */
  constructor(read) {
    super();
    this.#read = read;
    window.addEventListener("pagehide", () => this.#flush());
    document.addEventListener("visibilitychange", () => document.hidden && this.#flush());
  }

  /** The work to go on with, or null. Nothing is stored before `start`. */
  async load() {
    const [id, isKnown] = [this.#id, tabId() !== null];
    rememberTab(id);
    this.#sendToTabs({ asked: id }); // a duplicated tab has the id of the first, and gets its own with the answer
    try {
      return isKnown ? (await this.#store.run("readonly", (store) => store.get(id)))?.work ?? null : await this.#takeOver();
    } catch {
      this.#useOwnId(); // work that cannot be read now may be later
      this.#become(false);
      return null;
    }
  }

  /** Store what is there now, and from now on what `save` announces. */
  async start() {
    this.#isStarted = true;
    this.save();
    await this.#flush();
  }

  /** Whether something has changed that is not stored yet. */
  get isPending() {
    return this.#timer !== null || this.#numWriting > 0;
  }

  /** Store the work. A page that is left during that may not have stored it: browsers do not wait. */
  save() {
    if (!this.#isStarted || this.#timer !== null) return;
    this.#timer = setTimeout(() => this.#flush(), this.#flushedAt + PAUSE_MS - performance.now());
    this.#changed();
  }

  /** The newest work that is open in no other tab. A tab that did not answer finds its own again if it comes back. */
  async #takeOver() {
    const all = await this.#store.run("readonly", (store) => store.getAll());
    if (!all.length) return null;
    all.sort((one, other) => other.saved - one.saved);
    for (const { id } of all) this.#sendToTabs({ asked: id });
    await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
    const closed = all.filter(({ id }) => !this.#taken.has(id));
    const [left, takenOver] = [false, true].map((wanted) => closed.filter(({ isTakenOver = false }) => isTakenOver === wanted));
    const [newest] = left;
    if (!newest) return null;
    try {
      await this.#store.run("readwrite", (store) => {
        for (const { id } of [...left, ...takenOver].slice(MAX_STORED)) store.delete(id);
        store.put({ ...newest, isTakenOver: true });
        store.put({ ...newest, id: this.#id });
      });
    } catch {
      this.#become(false); // a full disk: what was read can be shown all the same
    }
    return newest.work;
  }

  #hear({ asked, taken }) {
    if (asked === this.#id) this.#sendToTabs({ taken: this.#id });
    else if (taken) this.#taken.add(taken);
    if (taken !== this.#id) return;
    this.#useOwnId();
    this.save();
  }

  async #flush() {
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    [this.#timer, this.#flushedAt] = [null, performance.now()];
    this.#numWriting++;
    const work = this.#read();
    try {
      await this.#store.run("readwrite", (store, transaction) => {
        if (work) store.put({ id: this.#id, saved: Date.now(), work });
        else store.delete(this.#id);
        transaction.commit(); // at once: the page may be about to go
      });
      this.#numWriting--;
      this.#become(true);
    } catch {
      this.#numWriting--;
      this.#become(false); // a full disk, or a private window
    }
  }

  #useOwnId() {
    this.#id = newId();
    rememberTab(this.#id);
  }

  #become(isStored) {
    this.isStored = isStored;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The id of this tab's work: kept by a reload, and by a browser that restores its tabs. */
function tabId() {
  try {
    return Number(sessionStorage.getItem(NAME)) || null;
  } catch {
    return null; // the browser stores nothing
  }
}

function rememberTab(id) {
  try {
    sessionStorage.setItem(NAME, String(id));
  } catch {
    // The browser stores nothing: a reload starts empty.
  }
}
