// SPDX-License-Identifier: Apache-2.0
// The checkpoint's styles as chips: LoRAs that no preset names. One that is on has a strength.

const FIELD = "loras";
const MAX_STRENGTH = 1.5; // more distorts pictures
const STEP = 0.05;

/** Dispatches `change` when a style or its strength changes. */
export class Styles extends EventTarget {
  #host;
  #isAccepted;
  #chips = new Map(); // by name: the button and its slider

  constructor(host, accepted) {
    super();
    this.#host = host;
    this.#isAccepted = accepted.includes(FIELD);
  }

  /** Build the chips. Styles that still exist stay as they are. */
  describe({ loras = [], presets = {} }) {
    const before = this.values();
    const ofPresets = new Set(Object.values(presets).flatMap((preset) => (preset.loras ?? []).map((lora) => lora.name)));
    const styles = this.#isAccepted ? loras.filter((lora) => !lora.unusable && !ofPresets.has(lora.name)) : [];
    this.#chips = new Map(styles.map((lora) => [lora.name, this.#chip(lora)]));
    this.#host.replaceChildren(...[...this.#chips.values()].map(({ chip }) => chip));
    this.#host.hidden = !styles.length;
    this.restore(before);
  }

  /** The request's field, as JSON; none if all styles are off. */
  values() {
    const on = [...this.#chips].filter(([, { button }]) => button.ariaPressed === "true");
    return on.length ? { [FIELD]: JSON.stringify(on.map(([name, { slider }]) => ({ name, scale: Number(slider.value) }))) } : {};
  }

  /** Switch on exactly the styles in `values`. Names that are no styles of this checkpoint have no effect. */
  restore(values) {
    const scales = new Map(JSON.parse(values[FIELD] ?? "[]").map(({ name, scale }) => [name, scale]));
    for (const [name, { button, slider }] of this.#chips) {
      button.ariaPressed = String(scales.has(name));
      slider.hidden = !scales.has(name);
      slider.value = scales.get(name) ?? 1;
    }
  }

  #chip({ name, trigger_words: words }) {
    const label = name.replace(/[_-]+/g, " ");
    const button = make("button", { type: "button", className: "chip", textContent: label, ariaPressed: "false", title: words || "" });
    const slider = make("input", { type: "range", min: 0, max: MAX_STRENGTH, step: STEP, value: 1, ariaLabel: `Strength of ${label}`, hidden: true });
    button.addEventListener("click", () => {
      slider.hidden = button.ariaPressed === "true";
      button.ariaPressed = String(!slider.hidden);
      this.#send();
    });
    slider.addEventListener("change", () => this.#send());
    const chip = make("span", { className: "style" });
    chip.append(button, slider);
    return { chip, button, slider };
  }

  #send() {
    this.dispatchEvent(new Event("change"));
  }
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
