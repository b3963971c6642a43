// SPDX-License-Identifier: Apache-2.0
// What was made before, kept in this browser (IndexedDB): the picture, its scribble, and what it was asked for with.

const MOST = 24; // entries; the oldest go first
const STORE = "pictures";

/** Gives newest first. Where the browser keeps nothing, it lasts as long as the page. */
export class History {
  #entries = [];
  #database = null;
  #nextId = 1;

  /** Whether it survives a reload. */
  get isKept() {
    return this.#database !== null;
  }

  async load() {
    try {
      this.#database = await opened();
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
    const tooMany = this.#entries.splice(MOST);
    await this.#keep((store) => {
      for (const each of tooMany) store.delete(each.id);
      return store.put(entry);
    });
    return entry;
  }

  async remove(id) {
    this.#entries = this.#entries.filter((entry) => entry.id !== id);
    await this.#keep((store) => store.delete(id));
  }

  async clear() {
    this.#entries = [];
    await this.#keep((store) => store.clear());
  }

  /** A full disk or a private window must not take the picture from the person who has just made it. */
  async #keep(change) {
    if (!this.#database) return;
    try {
      await this.#run("readwrite", change);
    } catch {
      this.#database = null;
    }
  }

  #run(mode, ask) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(STORE, mode);
      const request = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("playground", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });
}
