// SPDX-License-Identifier: Apache-2.0
// Earlier pictures with their scribbles, prompts and settings, stored in this browser. All tabs share them.

import { ObjectStore, connectTabs, newId } from "./database.js";

const MAX_ENTRIES = 24; // older ones are deleted

/** Dispatches `change` when the entries change, also by another tab. */
export class History extends EventTarget {
  /** The newest first. */
  entries = [];
  /** "stored", "full" (the newest are only in memory), or "off" (the browser stores nothing) */
  state = "stored";
  #store = new ObjectStore("playground", "pictures");
  #unsaved = new Map(); // by id
  #sendToTabs = connectTabs("playground-history", () => this.load());

  async load() {
    try {
      const stored = await this.#store.run("readonly", (store) => store.getAll());
      this.entries = newestFirst([...stored, ...this.#unsaved.values()]);
    } catch {
      this.state = "off";
    }
    this.#send();
  }

  /** Returns the new entry; it is stored soon. `replaced`: an entry that the new one replaces, or null. */
  add(fields, replaced = null) {
    const entry = { id: newId(), made: Date.now(), ...fields };
    this.#forget(replaced ? [replaced.id] : []);
    this.#remember([entry]);
    this.#save(replaced ? [replaced.id] : []);
    return entry;
  }

  /** Put entries back that were removed. */
  async restore(entries) {
    this.#remember(entries);
    await this.#save();
  }

  async remove(entries) {
    const ids = entries.map((entry) => entry.id);
    this.#forget(ids);
    await this.#save(ids);
  }

  #remember(entries) {
    for (const entry of entries) this.#unsaved.set(entry.id, entry);
    this.entries = newestFirst([...this.entries, ...entries]);
  }

  #forget(ids) {
    this.entries = this.entries.filter((entry) => !ids.includes(entry.id));
    for (const id of ids) this.#unsaved.delete(id);
  }

  /** Delete entries, and store those that are only in memory: there may be room for them now. */
  async #save(deleted = []) {
    this.#send();
    try {
      if (deleted.length) await this.#store.run("readwrite", (store) => deleted.forEach((id) => store.delete(id)));
      const added = [...this.#unsaved.values()]; // without what was removed meanwhile
      if (added.length) await this.#store.run("readwrite", (store) => put(store, added));
      for (const { id } of added) this.#unsaved.delete(id);
      this.state = "stored";
      this.#sendToTabs("changed");
    } catch (error) {
      this.state = error?.name === "QuotaExceededError" ? "full" : "off";
    }
    this.#send();
  }

  #send() {
    this.dispatchEvent(new Event("change"));
  }
}

function newestFirst(entries) {
  return entries.sort((one, other) => other.id - one.id).slice(0, MAX_ENTRIES);
}

function put(store, entries) {
  for (const entry of entries) store.put(entry);
  const keys = store.getAllKeys();
  keys.onsuccess = () => keys.result.slice(0, -MAX_ENTRIES).forEach((id) => store.delete(id));
}
