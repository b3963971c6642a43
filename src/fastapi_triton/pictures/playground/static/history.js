// SPDX-License-Identifier: Apache-2.0
// Earlier pictures with their scribbles, prompts and settings, stored in this browser (IndexedDB).

const MAX_ENTRIES = 24; // older ones are deleted
const STORE = "pictures";

/** Entries, the newest first. If the browser stores nothing, they are lost when the page is closed. */
export class History {
  #entries = [];
  #database = null;
  #nextId = 1;

  /** Whether entries survive a reload. */
  get isStored() {
    return this.#database !== null;
  }

  async load() {
    try {
      this.#database = await openDatabase();
      this.#entries = (await this.#run("readonly", (store) => store.getAll())).reverse();
      this.#nextId = (this.#entries[0]?.id ?? 0) + 1;
    } catch {
      this.#database = null;
    }
  }

  get entries() {
    return [...this.#entries];
  }

  async add(fields) {
    const entry = { id: this.#nextId++, made: Date.now(), ...fields };
    this.#entries.unshift(entry);
    const removed = this.#entries.splice(MAX_ENTRIES);
    await this.#store((store) => {
      for (const each of removed) store.delete(each.id);
      return store.put(entry);
    });
    return entry;
  }

  async remove(id) {
    this.#entries = this.#entries.filter((entry) => entry.id !== id);
    await this.#store((store) => store.delete(id));
  }

  async clear() {
    this.#entries = [];
    await this.#store((store) => store.clear());
  }

  /** If storing fails (a full disk, a private window), the entries stay in memory. */
  async #store(change) {
    if (!this.#database) return;
    try {
      await this.#run("readwrite", change);
    } catch {
      this.#database = null;
    }
  }

  #run(mode, operation) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(STORE, mode);
      const request = operation(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("playground", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });
}
