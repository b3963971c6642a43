// SPDX-License-Identifier: Apache-2.0
// The list of earlier pictures.

import { Message } from "./messages.js";

const NOTES = {
  stored: "Your pictures are stored here, in this browser only.",
  full: "This browser's storage is full: you lose your newest pictures when you close the page. Remove some to make room.",
  off: "This browser stores nothing, so you lose your pictures when you close the page.",
};

const byId = (id) => document.getElementById(id);

/** Shows a `History`. Dispatches `choose` (detail: the entry), and `remove` (detail: the removed entries). */
export class Gallery extends EventTarget {
  #history;
  #list = byId("history");
  #rows = new Map(); // by the entry's id
  #notice = new Message(byId("history-notice"));
  #ofLive = null; // the newest entry of live mode and its drawing's sheet: the next of that sheet replaces it

  constructor(history) {
    super();
    this.#history = history;
    history.addEventListener("change", () => this.#update());
    byId("forget").addEventListener("click", () => this.#remove([...history.entries], "All pictures were removed."));
  }

  load() {
    return this.#history.load();
  }

  /** Returns the new entry. */
  add(fields) {
    return this.#history.add(fields);
  }

  /** Add a picture of live mode. It replaces the one before of the same `sheet`, unless that is kept. */
  addLive(fields, sheet) {
    const replaced = this.#ofLive?.sheet === sheet ? this.#ofLive.entry : null;
    this.#ofLive = { entry: this.#history.add(fields, replaced), sheet };
    return this.#ofLive.entry;
  }

  /** Later pictures of live mode no longer replace the one before. */
  keep() {
    this.#ofLive = null;
  }

  /** Mark the entry whose picture is shown; null for none. */
  mark(entry) {
    for (const [id, row] of this.#rows) row.querySelector(".kept").ariaCurrent = id === entry?.id ? "true" : null;
  }

  async #remove(entries, text) {
    const index = this.#history.entries.indexOf(entries[0]);
    const removing = this.#history.remove(entries);
    this.#notice.note(text, { label: "Undo", run: () => this.#restore(entries) });
    const next = this.#list.children[Math.min(index, this.#list.children.length - 1)];
    (next?.querySelector(".drop") ?? byId("history-notice").querySelector("button")).focus();
    this.dispatchEvent(new CustomEvent("remove", { detail: entries }));
    await removing;
  }

  #restore(entries) {
    this.#notice.clear();
    const restoring = this.#history.restore(entries);
    this.#rows.get(entries[0].id)?.querySelector(".kept").focus();
    return restoring;
  }

  #update() {
    const { entries, state } = this.#history;
    const ids = new Set(entries.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      URL.revokeObjectURL(row.querySelector("img").src);
      row.remove();
      this.#rows.delete(id);
    }
    entries.forEach((entry, index) => {
      if (!this.#rows.has(entry.id)) this.#rows.set(entry.id, this.#row(entry));
      const row = this.#rows.get(entry.id);
      if (this.#list.children[index] !== row) this.#list.insertBefore(row, this.#list.children[index] ?? null);
    });
    byId("forget").hidden = entries.length === 0;
    byId("history-note").textContent = NOTES[state];
  }

  #row(entry) {
    const name = entry.prompt || "picture without prompt";
    const button = make("button", { type: "button", className: "kept", ariaLabel: `${name}, seed ${entry.seed}`, title: name });
    button.append(make("img", { src: URL.createObjectURL(entry.picture), alt: "", width: 92, height: 92 }));
    button.addEventListener("click", () => this.dispatchEvent(new CustomEvent("choose", { detail: entry })));
    const drop = make("button", { type: "button", className: "drop", ariaLabel: `Remove from history: ${name}` });
    drop.append(byId("clear").firstElementChild.cloneNode(true));
    drop.querySelector("use").setAttribute("href", "#i-close");
    drop.addEventListener("click", () => {
      const current = this.#history.entries.filter(({ id }) => id === entry.id);
      this.#remove(current, `Removed “${name}”.`);
    });
    const row = make("li", {});
    row.append(button, drop);
    return row;
  }
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
