// SPDX-License-Identifier: Apache-2.0
// Storage in this browser (IndexedDB). All tabs of the page share it.

/** The only object store of a database. Its objects have a number as `id`. */
export class ObjectStore {
  #database;
  #name;
  #opening = null;

  constructor(database, name) {
    this.#database = database;
    this.#name = name;
  }

  /** Run an operation, which may return a request; resolves to its result when all is stored. Rejects if it is not. */
  async run(mode, operation) {
    this.#opening ??= this.#open().catch((error) => {
      this.#opening = null; // another attempt may succeed
      throw error;
    });
    const database = await this.#opening;
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(this.#name, mode);
      const request = operation(transaction.objectStore(this.#name), transaction);
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }

  #open() {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(this.#database, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(this.#name, { keyPath: "id" });
      request.onsuccess = () => {
        request.result.onclose = () => (this.#opening = null); // the person deleted the browser's data
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
  }
}

/** An id that no other tab makes. Later ids are larger. */
export function newId() {
  return Date.now() + Math.random();
}

/** Connects the page's tabs. `hear` gets their messages; returns the function that sends one to the other tabs. */
export function connectTabs(name, hear) {
  try {
    const channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => hear(data);
    return (message) => channel.postMessage(message);
  } catch {
    return () => {}; // a browser that stores nothing: tabs share nothing
  }
}
