// SPDX-License-Identifier: Apache-2.0
// The settings. Their defaults, limits and choices come from the model's description.

import { Message } from "./messages.js";

const numbers = {
  num_inference_steps: { label: "Steps", limit: "max_inference_steps", low: 1, step: 1, about: "More steps take longer and show more detail." },
  guidance_scale: { label: "Guidance", limit: "max_guidance_scale", low: 0, step: 0.1, about: "How closely the picture follows your text." },
  conditioning_scale: { label: "Scribble strength", limit: "max_conditioning_scale", low: 0, step: 0.05, about: "How closely the picture follows your scribble." },
};
const PRESET = "preset";
const DRAFT = "draft";
const BEST = "quality"; // the preset that is chosen at first, if the model has it
const PRESET_FIELDS = ["num_inference_steps", "guidance_scale", "scheduler"];
const SEED = "seed";
const NEGATIVE = "negative_prompt";
const LORAS = "loras"; // the styles
// The fields of the settings that are several.
const BELONGING = { size: ["width", "height"], [PRESET]: [PRESET, ...PRESET_FIELDS] };
const BESIDE = [PRESET, "conditioning_scale"]; // beside the picture, always visible

/** Dispatches `change` when a setting changes. Values are strings, as a form sends them. */
export class Settings extends EventTarget {
  #fold;
  #host;
  #beside;
  #styles;
  #summary;
  #accepted;
  #description = null;
  #waiting = null; // values for the fields that `describe` will build
  #messages = new Map();
  #touched = new Set(); // the fields that were changed
  /** Whether values were entered or restored. If not, they are the model's defaults. */
  isChosen = false;

  /** `beside`: for the settings that are always visible. `styles`: those that are switched on by chips. */
  constructor({ fold, host, beside, styles, summary, accepted }) {
    super();
    this.#fold = fold;
    this.#host = host;
    this.#beside = beside;
    this.#styles = styles;
    this.#summary = summary;
    this.#accepted = new Set(accepted);
    for (const each of [host, beside]) each.addEventListener("input", (event) => this.#input(event.target));
    styles.addEventListener("change", () => {
      this.isChosen = true;
      this.#touched.add(LORAS);
      this.#changed();
    });
  }

  /** Build the fields. Values that the model still supports are kept. */
  describe(description) {
    if (JSON.stringify(description) === JSON.stringify(this.#description)) return;
    const before = this.#description ? this.values() : this.#waiting;
    this.#description = description;
    this.#waiting = null;
    for (const each of [this.#host, this.#beside]) each.replaceChildren();
    this.#styles.describe(description);
    this.#messages.clear();
    let isBestKnown = false;
    const { defaults = {}, limits = {}, sizes = [], schedulers = [], presets = {} } = description;
    if (this.#accepts(PRESET) && Object.keys(presets).length) {
      const select = make("select", {});
      select.append(...["", ...Object.keys(presets)].map((name) => make("option", { value: name, textContent: name || "none" })));
      this.#add(PRESET, "Preset", "Settings that belong together.", select);
      isBestKnown = BEST in presets;
    }
    for (const [name, { label, limit, low, step, about }] of Object.entries(numbers)) {
      if (!this.#accepts(name) || limits[limit] === undefined) continue;
      const number = make("input", { type: "number", min: low, max: limits[limit], step, value: defaults[name] ?? low });
      const slider = make("input", { type: "range", min: low, max: limits[limit], step, value: number.value, ariaLabel: `${label}, slider` });
      slider.dataset.for = name;
      this.#add(name, label, `${about} ${low} to ${limits[limit]}.`, number, slider);
    }
    if (this.#accepts("width") && this.#accepts("height") && sizes.length) {
      const options = sizes.map(([width, height]) => make("option", { value: `${width}x${height}`, textContent: sizeName(width, height) }));
      const select = make("select", {});
      select.append(...options);
      select.value = `${defaults.width}x${defaults.height}`;
      this.#add("size", "Size", "The canvas has the same shape.", select);
    }
    if (this.#accepts("scheduler") && schedulers.length) {
      const select = make("select", {});
      select.append(...schedulers.map((name) => make("option", { value: name, textContent: name })));
      select.value = defaults.scheduler ?? schedulers[0];
      this.#add("scheduler", "Scheduler", "The method that turns noise into a picture.", select);
    }
    if (this.#accepts(SEED)) {
      const seed = make("input", { type: "text", inputMode: "numeric", autocomplete: "off", placeholder: "random each time", className: "seed" });
      this.#add(SEED, "Seed", "The same number makes the same picture again.", seed);
    }
    if (this.#accepts(NEGATIVE)) {
      const text = make("textarea", { rows: 2, placeholder: "what should not be in the picture" });
      this.#add(NEGATIVE, "Negative prompt", "", text).classList.add("whole");
    }
    const reset = make("button", { type: "button", className: "quiet", textContent: "Reset to defaults" });
    reset.addEventListener("click", () => {
      this.#reset();
      this.#host.lastElementChild.focus(); // the new button
    });
    this.#host.append(reset);
    if (!before && isBestKnown) this.#apply(BEST);
    else this.#show(before ?? {});
  }

  /** The values by request field, without empty ones. */
  values() {
    if (!this.#description) return { ...this.#waiting };
    const values = {};
    for (const control of this.#controls()) {
      const value = control.value.trim();
      if (control.dataset.field === "size") [values.width, values.height] = value.split("x");
      else if (value) values[control.dataset.field] = value;
    }
    return { ...values, ...this.#styles.values() };
  }

  /** The values of the settings that were changed. */
  get entered() {
    const values = { [SEED]: "", [NEGATIVE]: "", [PRESET]: "", [LORAS]: "[]", ...this.values() };
    return Object.fromEntries(Object.entries(values).filter(([name]) => this.#touched.has(name)));
  }

  /** Whether the model has a preset for drafts. */
  get hasDrafts() {
    return this.#accepts(PRESET) && DRAFT in (this.#description?.presets ?? {});
  }

  /** The values for a draft: its preset decides how it is made. */
  draftValues() {
    const values = { ...this.values(), [PRESET]: DRAFT };
    for (const name of PRESET_FIELDS) delete values[name];
    return values;
  }

  /** Show exactly these values; a setting without one gets its default. Before `describe`, they wait for it. */
  replace(values) {
    if (!Object.keys(values).length) { // nothing was known of the model
      this.#reset();
      return;
    }
    const blank = { [SEED]: "", [NEGATIVE]: "", [PRESET]: "", [LORAS]: "[]", ...this.#description?.defaults };
    if (!this.#description) this.#waiting = values;
    const given = Object.entries(values).filter(([, value]) => value !== undefined);
    this.restore({ ...blank, ...Object.fromEntries(given) });
  }

  /** Show these values, and leave the other settings as they are. */
  restore(values) {
    this.isChosen = true;
    for (const name of Object.keys(values)) this.#touched.add(name);
    this.#show(values);
  }

  /** As at the start. */
  #reset() {
    const description = this.#description;
    [this.#description, this.#waiting] = [null, null];
    this.#touched.clear();
    this.#styles.restore({});
    if (description) this.describe(description);
  }

  #show(values) {
    if (LORAS in values) this.#styles.restore(values);
    for (const control of this.#controls()) {
      const name = control.dataset.field;
      const value = name === "size" ? `${values.width}x${values.height}` : values[name];
      const isChoice = control instanceof HTMLSelectElement;
      if (isChoice ? [...control.options].some((option) => option.value === value) : value !== undefined) control.value = value;
      this.#follow(control);
    }
    this.#changed();
  }

  /** The selected width and height. */
  get size() {
    const { width = 1, height = 1 } = { ...this.#description?.defaults, ...this.values() };
    return [Number(width), Number(height)];
  }

  /** The message beside a request field's setting, or null. */
  messageOf(field) {
    return this.#messages.get(field === "width" || field === "height" ? "size" : field) ?? null;
  }

  /** The names of the fields as a person sees them. */
  get labels() {
    const named = [...this.#host.querySelectorAll("label")].map((label) => [label.control.dataset.field, label.textContent]);
    return Object.fromEntries(named);
  }

  clear() {
    for (const message of this.#messages.values()) message.clear();
    for (const control of this.#controls()) this.#check(control);
  }

  /** A number field has no value while its text is unfinished, such as "1e", so the page cannot send it. */
  #check(control) {
    const message = this.#messages.get(control.dataset.field);
    if (control.validity.badInput) message.error("Write a number. Without one, the default is used.");
  }

  unfold() {
    this.#fold.open = true;
  }

  #accepts(name) {
    return this.#accepted.has(name);
  }

  #controls() {
    return [this.#host, this.#beside].flatMap((each) => [...each.querySelectorAll("[data-field]")]);
  }

  #add(name, label, about, control, slider = null) {
    const id = `setting-${name}`;
    Object.assign(control, { id }).dataset.field = name;
    const text = make("p", { id: `${id}-error`, className: "about", textContent: about });
    control.setAttribute("aria-describedby", text.id);
    const field = make("div", { className: "field" });
    field.append(make("label", { htmlFor: id, textContent: label }), control, ...(slider ? [slider] : []), text);
    (BESIDE.includes(name) ? this.#beside : this.#host).append(field);
    this.#messages.set(name, new Message(text, control));
    return field;
  }

  #input(control) {
    if (control.dataset.for) {
      const number = document.getElementById(`setting-${control.dataset.for}`);
      number.value = control.value;
      control = number;
    }
    this.#follow(control);
    const { field } = control.dataset;
    this.#messages.get(field)?.clear();
    if (field) this.#check(control);
    this.isChosen = true;
    for (const name of BELONGING[field] ?? [field]) this.#touched.add(name);
    if (field === PRESET) this.#apply(control.value);
    else this.#changed();
  }

  /** Show a preset's values. Those without a field here are known to the server. */
  #apply(preset) {
    const { defaults = {}, presets = {} } = this.#description;
    const { num_inference_steps, guidance_scale, scheduler } = { ...defaults, ...presets[preset] };
    this.#show({ preset, num_inference_steps, guidance_scale, scheduler });
  }

  #follow(control) {
    const slider = document.querySelector(`[data-for="${control.dataset.field}"]`);
    if (!slider) return;
    const { defaults, presets = {} } = this.#description;
    slider.value = control.value || ({ ...defaults, ...presets[this.values()[PRESET]] }[control.dataset.field] ?? slider.min);
  }

  #changed() {
    const { preset, num_inference_steps: steps, seed, width, height } = this.values();
    const parts = [preset, steps && `${steps} steps`, width && `${width} × ${height}`, seed ? `seed ${seed}` : "random seed"];
    this.#summary.textContent = parts.filter(Boolean).join(" · ");
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
