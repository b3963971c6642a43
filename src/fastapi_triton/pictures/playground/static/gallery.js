// SPDX-License-Identifier: Apache-2.0
// The list of earlier pictures.

const byId = (id) => document.getElementById(id);

/** Shows a `History`. Dispatches `choose` (detail: the entry), and `remove` (detail: the removed entry; null for all). */
export class Gallery extends EventTarget {
  #history;
  #list = byId("history");

  constructor(history) {
    super();
    this.#history = history;
    byId("forget").addEventListener("click", async () => {
      await history.clear();
      this.#update();
      this.#send("remove", null);
    });
  }

  async load() {
    await this.#history.load();
    this.#update();
  }

  async add(fields) {
    const entry = await this.#history.add(fields);
    this.#update();
    return entry;
  }

  /** Mark the entry whose picture is shown; null for none. */
  mark(entry) {
    for (const each of this.#list.querySelectorAll(".kept")) {
      if (entry && Number(each.dataset.id) === entry.id) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    }
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #update() {
    const { entries, isStored } = this.#history;
    for (const image of this.#list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.#list.replaceChildren(...entries.map((entry) => this.#item(entry)));
    byId("forget").hidden = entries.length === 0;
    byId("history-note").textContent = isStored
      ? "Your pictures are stored here, in this browser only."
      : "This browser stores nothing, so you lose your pictures when you close the page.";
  }

  #item(entry) {
    const button = make("button", { type: "button", className: "kept", ariaLabel: `${entry.prompt}, seed ${entry.seed}`, title: entry.prompt });
    button.dataset.id = entry.id;
    button.append(make("img", { src: URL.createObjectURL(entry.picture), alt: "", width: 92, height: 92 }));
    button.addEventListener("click", () => this.#send("choose", entry));
    const drop = make("button", { type: "button", className: "drop", ariaLabel: `Remove from history: ${entry.prompt}` });
    drop.append(byId("clear").firstElementChild.cloneNode(true));
    drop.querySelector("use").setAttribute("href", "#i-close");
    drop.addEventListener("click", async () => {
      await this.#history.remove(entry.id);
      this.#update();
      this.#send("remove", entry);
      this.#list.querySelector("button")?.focus();
    });
    const row = make("li", {});
    row.append(button, drop);
    return row;
  }
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
