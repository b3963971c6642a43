// SPDX-License-Identifier: Apache-2.0
// Restores what made a picture into the canvas, the prompt and the settings: from the history, an example, a link, or a receipt.

import { OWN_LINK } from "./export.js";
import { inkOf, open } from "./ink.js";
import { receiptOf } from "./receipt.js";
import { contentOf } from "./share.js";

/**
 * Content has `values` for the settings, and may have a `prompt` (null leaves the present one), a `drawing` (stored
 * actions) or a `scribble` (a picture file), and the `files` of an `InitImage`.
 *
 * Dispatches `begin` before content is restored, `end` (detail: the content, or its `seed` only) afterwards, and `picture`
 * (detail: the fields of a history entry) if the content comes from a finished picture's file.
 */
export class Restorer extends EventTarget {
  #prompt;
  #settings;
  #scribble;
  #initImage;
  #note;
  #trace;
  #numRunning = 0;
  #restored = null; // the last content that is at hand: the work `before`, and the page `after`, null while it is restored

  /** `prompt`: the text field. `note`: a `RestoredNote`. `trace(file)` makes a picture the scribble. */
  constructor({ prompt, settings, scribble, initImage, note, trace }) {
    super();
    this.#prompt = prompt;
    this.#settings = settings;
    this.#scribble = scribble;
    this.#initImage = initImage;
    this.#note = note;
    this.#trace = trace;
  }

  /** Whether the page changes the drawing or the settings now, not the person: nothing new is to be drawn. */
  get isRestoring() {
    return this.#numRunning > 0;
  }

  /** Change the drawing or the settings without drawing a new picture. */
  async quietly(change) {
    this.#numRunning++;
    try {
      await change();
    } finally {
      this.#numRunning--;
    }
  }

  /** `how`: the kind of the content's scribble, for `inkOf`. */
  async restore(content, how = "lines") {
    this.dispatchEvent(new Event("begin"));
    const { prompt, values, files, drawing, scribble } = content;
    await this.quietly(async () => {
      this.#settings.replace(values);
      this.#prompt.value = prompt ?? this.#prompt.value;
      this.#initImage.replace(files);
      if (drawing) await this.#scribble.replaceStored(drawing);
      else if (scribble) await this.#scribble.load(inkOf(await open(scribble), this.#scribble.size, how).ink);
    });
    this.dispatchEvent(new CustomEvent("end", { detail: content }));
  }

  /** Restore the stored work of this tab, and keep what was drawn and entered since. */
  async restoreWork({ prompt, values, files, drawing, liveSeed }) {
    await this.quietly(async () => {
      const entered = this.#settings.entered;
      this.#settings.replace(values);
      this.#settings.restore(entered);
      this.#prompt.value ||= prompt;
      if (!this.#initImage.files.init_image) this.#initImage.replace(files);
      await this.#scribble.restore(drawing);
    });
    this.dispatchEvent(new CustomEvent("end", { detail: { seed: liveSeed } }));
  }

  /** Restore what made an entry of the history. */
  restoreEntry(entry) {
    const text = "Prompt, settings and scribble are those of the earlier picture.";
    return this.#restoreWithNote({ ...entry, prompt: entry.prompt || null }, text, { how: "lines", isAtHand: true });
  }

  /** Show an example's prompt and drawing, a picture file. The settings stay. Live mode draws it, unlike restored content. */
  async showExample(prompt, file) {
    const before = await this.#replaceWork(() => {
      this.#prompt.value = prompt;
      return this.#trace(file);
    }, true);
    this.dispatchEvent(new CustomEvent("end", { detail: {} }));
    const isWork = before.prompt.trim() !== "" || before.drawing.length > 0;
    if (isWork) this.#showNote("Prompt and scribble are those of the example.", before);
  }

  /** Restore what the receipt in a picture file says. Returns whether there is one. */
  async restoreFile(file) {
    this.#note.hide();
    const found = await receiptOf(file);
    if (!found) return false;
    const content = await withReadableScribble(found);
    await this.#restoreWithNote(content, textFor(content), { trace: () => this.#trace(file) });
    if (!content.scribble) await this.#trace(file);
    else this.dispatchEvent(new CustomEvent("picture", { detail: { ...content, prompt: content.prompt ?? "", picture: file } }));
    return true;
  }

  /** Restore what the address carries, if it is a link with settings. `hasWork`: the tab's stored work is restored. */
  async restoreLink({ hasWork = false } = {}) {
    if (hasWork && window.history.state === OWN_LINK) return; // the link was made here, and the work is newer
    const content = contentOf(location.hash);
    if (!content) return;
    window.history.replaceState(null, "", location.pathname + location.search); // so that a reload keeps what was changed since
    if (content.isNewer) {
      this.#note.show("A newer version of this page made this link. Enter its prompt yourself.", {});
      return;
    }
    const refused = content.refused.length ? `, without ${content.refused.join(", ")}` : "";
    await this.#restoreWithNote(await withReadableScribble(content), `Prompt and settings come from the link${refused}.`);
  }

  /** Restore content, with a note and the way back. `trace` uses the picture as scribble instead. `how`: as for `restore`. */
  async #restoreWithNote(content, text, { trace, how = "auto", isAtHand = false } = {}) {
    this.#showNote(text, await this.#replaceWork(() => this.restore(content, how), isAtHand), trace);
  }

  #showNote(text, before, trace) {
    const undo = () => this.restore(before);
    this.#note.show(text, { undo, ...(trace && { trace: async () => (await undo(), trace()) }) });
  }

  /**
   * Returns the person's work before. `isAtHand`: the page still offers the new content, so it is no such work until the
   * person changes it: the way back from several pictures of the history leads to what was there before all of them.
   */
  async #replaceWork(replace, isAtHand) {
    this.#note.hide();
    const [present, last] = [this.#present(), this.#restored];
    const isUnchanged = last && (!last.after || isSame(present, last.after));
    const restored = { before: isUnchanged ? last.before : present, after: null };
    this.#restored = isAtHand ? restored : null;
    try {
      await replace();
    } finally {
      restored.after = this.#present();
    }
    return restored.before;
  }

  #present() {
    const { visible: actions } = this.#scribble;
    const drawing = this.#scribble.storedVisible();
    return { prompt: this.#prompt.value, values: this.#settings.values(), files: this.#initImage.files, actions, drawing };
  }
}

/** Whether a person has changed nothing between two states of the page. */
function isSame(one, other) {
  const texts = [one, other].map(({ prompt, values }) => JSON.stringify([prompt, values]));
  const isSameDrawing = one.actions.length === other.actions.length && one.actions.every((action, at) => action === other.actions[at]);
  return texts[0] === texts[1] && one.files === other.files && isSameDrawing;
}

function textFor({ prompt, values }) {
  const start = values.init_image_sha256 ? " It was made from another picture too, which is not in the file." : "";
  return prompt === null
    ? `This picture does not say from which prompt it was made. Its settings and scribble are restored.${start}`
    : `This picture was made from “${prompt}”. Its prompt, settings and scribble are restored.${start}`;
}

/** Drops a scribble that cannot be read. */
async function withReadableScribble(content) {
  const isReadable = await open(content.scribble).then(() => true, () => false);
  return isReadable ? content : { ...content, scribble: null };
}
