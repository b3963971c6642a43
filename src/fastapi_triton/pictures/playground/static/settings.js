// SPDX-License-Identifier: Apache-2.0
// The fold of settings. Defaults, limits and choices are what the model says of itself; nothing of it is known here.

import { Place } from "./messages.js";

const numbers = {
  num_inference_steps: { label: "Steps", limit: "max_inference_steps", low: 1, step: 1, about: "More is finer, and slower." },
  guidance_scale: { label: "Guidance", limit: "max_guidance_scale", low: 0, step: 0.1, about: "How strictly to follow the prompt." },
  conditioning_scale: { label: "Scribble strength", limit: "max_conditioning_scale", low: 0, step: 0.05, about: "How closely to follow the scribble." },
};
const SEED = "seed";
const NEGATIVE = "negative_prompt";

/** Tells `change` when a setting does. Its values are texts, as a form sends them. */
export class Settings extends EventTarget {
  #fold;
  #host;
  #short;
  #accepted;
  #description = null;
  #places = new Map();

  constructor({ fold, host, short, accepted }) {
    super();
    this.#fold = fold;
    this.#host = host;
    this.#short = short;
    this.#accepted = new Set(accepted);
    host.addEventListener("input", (event) => this.#input(event.target));
  }

  /** Builds the fields; what was set before stays where the model still takes it. */
  describe(description) {
    if (JSON.stringify(description) === JSON.stringify(this.#description)) return;
    const before = this.#description ? this.values() : {};
    this.#description = description;
    this.#host.replaceChildren();
    this.#places.clear();
    const { defaults = {}, limits = {}, sizes = [], schedulers = [] } = description;
    for (const [name, { label, limit, low, step, about }] of Object.entries(numbers)) {
      if (!this.#takes(name) || limits[limit] === undefined) continue;
      const number = make("input", { type: "number", min: low, max: limits[limit], step, value: defaults[name] ?? low });
      const slider = make("input", { type: "range", min: low, max: limits[limit], step, value: number.value, ariaLabel: `${label}, slider` });
      slider.dataset.for = name;
      this.#add(name, label, `${about} ${low} to ${limits[limit]}.`, number, slider);
    }
    if (this.#takes("width") && this.#takes("height") && sizes.length) {
      const options = sizes.map(([width, height]) => make("option", { value: `${width}x${height}`, textContent: sizeName(width, height) }));
      const select = make("select", {});
      select.append(...options);
      select.value = `${defaults.width}x${defaults.height}`;
      this.#add("size", "Size", "The canvas takes the same shape.", select);
    }
    if (this.#takes("scheduler") && schedulers.length) {
      const select = make("select", {});
      select.append(...schedulers.map((name) => make("option", { value: name, textContent: name })));
      select.value = defaults.scheduler ?? schedulers[0];
      this.#add("scheduler", "Scheduler", "The way from noise to picture.", select);
    }
    if (this.#takes(SEED)) {
      const seed = make("input", { type: "text", inputMode: "numeric", autocomplete: "off", placeholder: "drawn anew each time", className: "seed" });
      this.#add(SEED, "Seed", "The same seed makes the same picture again.", seed);
    }
    if (this.#takes(NEGATIVE)) {
      const text = make("textarea", { rows: 2, placeholder: "what to keep out" });
      this.#add(NEGATIVE, "Negative prompt", "", text).classList.add("whole");
    }
    const reset = make("button", { type: "button", className: "quiet", textContent: "Reset to the model's defaults" });
    reset.addEventListener("click", () => {
      this.#description = null;
      this.describe(description);
    });
    this.#host.append(reset);
    this.restore(before);
  }

  /** By the names of the endpoint's fields; what is left empty is left out. */
  values() {
    const found = {};
    for (const control of this.#controls()) {
      const value = control.value.trim();
      if (control.dataset.field === "size") [found.width, found.height] = value.split("x");
      else if (value) found[control.dataset.field] = value;
    }
    return found;
  }

  restore(values) {
    for (const control of this.#controls()) {
      const name = control.dataset.field;
      const value = name === "size" ? `${values.width}x${values.height}` : values[name];
      const isChoice = control instanceof HTMLSelectElement;
      if (isChoice ? [...control.options].some((option) => option.value === value) : value !== undefined) control.value = value;
      this.#follow(control);
    }
    this.#changed();
  }

  /** The width and height that are chosen, as numbers. */
  get size() {
    const { width = 1, height = 1 } = { ...this.#description?.defaults, ...this.values() };
    return [Number(width), Number(height)];
  }

  /** Where words about a field of the request belong; null for one that is not here. */
  placeOf(field) {
    return this.#places.get(field === "width" || field === "height" ? "size" : field) ?? null;
  }

  clear() {
    for (const place of this.#places.values()) place.clear();
  }

  unfold() {
    this.#fold.open = true;
  }

  #takes(name) {
    return this.#accepted.has(name);
  }

  #controls() {
    return this.#host.querySelectorAll("[data-field]");
  }

  #add(name, label, about, control, slider = null) {
    const id = `setting-${name}`;
    Object.assign(control, { id }).dataset.field = name;
    const words = make("p", { id: `${id}-error`, className: "about", textContent: about });
    control.setAttribute("aria-describedby", words.id);
    const field = make("div", { className: "field" });
    field.append(make("label", { htmlFor: id, textContent: label }), control, ...(slider ? [slider] : []), words);
    this.#host.append(field);
    this.#places.set(name, new Place(words, control));
    return field;
  }

  #input(control) {
    if (control.dataset.for) {
      const number = this.#host.querySelector(`#setting-${control.dataset.for}`);
      number.value = control.value;
      control = number;
    }
    this.#follow(control);
    this.#places.get(control.dataset.field)?.clear();
    this.#changed();
  }

  #follow(control) {
    const slider = this.#host.querySelector(`[data-for="${control.dataset.field}"]`);
    if (slider) slider.value = control.value;
  }

  #changed() {
    const { num_inference_steps: steps, seed, width, height } = this.values();
    const parts = [steps && `${steps} steps`, width && `${width} × ${height}`, seed ? `seed ${seed}` : "another seed each time"];
    this.#short.textContent = parts.filter(Boolean).join(" · ");
    this.dispatchEvent(new Event("change"));
  }
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function sizeName(width, height) {
  const shape = width === height ? "square" : width > height ? "wide" : "tall";
  return `${width} × ${height}, ${shape}`;
}
