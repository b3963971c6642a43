// SPDX-License-Identifier: Apache-2.0
// The course of a picture, or of several at once: what is missing, the requests, their previews, and their end.

import { blobOf } from "./picture.js";
import { together } from "./request_group.js";
import { inWords, plain } from "./refusals.js";
import { ConnectionLost, Problem } from "./server.js";

// Fields of live mode, for endpoints that have them: a draft is never kept.
const FIELDS_OF = { asked: {}, drafting: { receipt: "none" }, finishing: {} };
const RANDOM = "-1"; // the server chooses the seed
const LAST_SEED = 2n ** 63n - 1n;
const REFUSALS = new Set(["overloaded", "too_many_requests"]); // the server did not begin the picture

/**
 * Dispatches `change` when a picture starts or ends, `preview` when a `pane` (in the detail) shows an unfinished picture,
 * and `completed` with a finished picture: the `fields` of a history entry, the `pane` that shows it, the `sheet` of its
 * drawing, and `isLive` if live mode finished it. Drafts have no such event.
 */
export class DrawingRun extends EventTarget {
  /** Whether the server has asked to wait. `wait` is dispatched when this changes. */
  isWaiting = false;
  #current = null; // what is drawn, or will be when the request before has ended: its kind, AbortController, and end (a promise)
  #config;
  #server;
  #scribble;
  #settings;
  #initImage;
  #pane;
  #messages;
  #prompt;
  #askForKey;
  #revokers = []; // of the messages that this run has shown

  /** `prompt`: the text field. `messages`: beside the scribble, the prompt and the result. */
  constructor({ config, server, scribble, settings, initImage, pane, messages, prompt, askForKey }) {
    super();
    this.#config = config;
    this.#server = server;
    this.#scribble = scribble;
    this.#settings = settings;
    this.#initImage = initImage;
    this.#pane = pane;
    this.#messages = messages;
    this.#prompt = prompt;
    this.#askForKey = askForKey;
  }

  /** Whether a picture that a person asked for is drawn. Those of live mode do not count: they can be superseded. */
  get isRunning() {
    return this.#current?.kind === "asked";
  }

  /** Whether live mode can draw now. */
  get isPossible() {
    const isFree = !this.isRunning && !this.isWaiting && this.#server.state === "ready";
    const isDrawn = !this.#scribble.isBlank && this.#scribble.hasInk(); // a first stroke is drawn when it has ended
    return isFree && this.#prompt.value.trim() !== "" && isDrawn;
  }

  stop() {
    this.#current?.controller.abort();
  }

  /**
   * Draw what a person asks for. It supersedes a picture of live mode. When the pictures begin, `panes()` returns a pane
   * for each, and `fields()` what replaces the settings. `files` replace those of the `InitImage`.
   */
  async start({ fields, files, panes }) {
    if (this.isRunning) {
      this.#say(this.#messages.prompt, "Your picture is still being drawn. Press Stop to start another.", "note");
      return;
    }
    if (this.isWaiting) return; // the message counts the seconds
    this.#clearMessages();
    if (!this.#isComplete(this.#prompt.value.trim())) return;
    if (this.#server.state === "locked") {
      this.#askForKey(this.#server.detail);
      return;
    }
    if (this.#server.state !== "ready") {
      const reason = this.#server.detail ? ` Reason: ${this.#server.detail.replaceAll("`", "")}` : "";
      this.#say(this.#messages.result, `The model is not ready yet. You can draw when the light above turns green.${reason}`, "note");
      return;
    }
    await this.#supersede("asked", new AbortController(), { fields, files, panes });
  }

  /**
   * Draw a picture of live mode: a draft ("drafting"), or the finished picture ("finishing"). Resolves when its request
   * has ended: whether there is a picture, and if not, after how many seconds to try again.
   */
  async live(kind, signal, seed) {
    for (const revoke of this.#revokers.splice(0)) revoke(); // other messages are still of use
    const controller = new AbortController();
    signal.addEventListener("abort", () => controller.abort());
    if (signal.aborted) controller.abort();
    return this.#supersede(kind, controller, { fields: () => ({ seed: this.#settings.values().seed ?? seed }) });
  }

  /** Abort a picture of live mode, and draw these when its request has ended. Until then they count as drawn already. */
  async #supersede(kind, controller, what) {
    const before = this.#current;
    before?.controller.abort();
    const current = { kind, controller, ended: this.#drawAfter(before?.ended, kind, controller.signal, what) };
    this.#current = current;
    this.#send("change");
    try {
      return await current.ended;
    } finally {
      if (this.#current === current) this.#current = null;
      this.#send("change");
    }
  }

  /** Draw a picture in each pane. Resolves when all have ended, to what `live` returns. */
  async #drawAfter(before, kind, signal, { fields, files = this.#initImage.files, panes = () => [this.#pane] }) {
    await before?.catch(() => {}); // shown where it was started; `change` comes first
    const shown = panes();
    for (const pane of shown) pane.begin(kind);
    const fixed = this.#settings.values().seed;
    const isSeedFixed = ![undefined, RANDOM].includes(fixed);
    const all = { ...(kind === "drafting" ? this.#settings.draftValues() : this.#settings.values()), ...fields() };
    const values = Object.fromEntries(Object.entries(all).filter(([name]) => this.#config.fields.includes(name)));
    const drawn = this.#drawn(); // once: a picture that is tried again must be of the same drawing as the others
    const tasks = shown.map((pane, index) => () => this.#drawOne({ kind, pane, signal, isSeedFixed, files, drawn, values: withSeed(values, index) }));
    const results = await together(tasks, (error) => REFUSALS.has(error.code));
    const failures = results.flatMap(({ reason: error }, index) => (error ? [{ error, pane: shown[index] }] : []));
    const wait = ({ error }) => error.retryAfter ?? 0;
    failures.sort((one, other) => wait(one) - wait(other)); // the longest is shown last, and stays
    for (const { error, pane } of failures) this.#showEnd(error, kind, pane);
    return { isCompleted: !failures.length, retryAfter: failures.at(-1)?.error.retryAfter };
  }

  /** Whether there is a scribble and a prompt; shows a message for each that is missing. */
  #isComplete(prompt) {
    const missing = [];
    if (!this.#scribble.hasInk()) {
      this.#say(this.#messages.scribble, "The canvas is empty. Draw something, load a picture, or choose an example.");
      missing.push(this.#messages.scribble);
    }
    if (!prompt) {
      this.#say(this.#messages.prompt, "Say what your scribble shows, for example “a red house in the snow”.");
      missing.push(this.#messages.prompt);
    }
    missing[0]?.focus();
    return missing.length === 0;
  }

  /** The prompt and the drawing as they are now. */
  #drawn() {
    const { sheet } = this.#scribble;
    const drawing = this.#scribble.storedVisible();
    return { prompt: this.#prompt.value.trim(), sheet, drawing, png: this.#scribble.toBlob(Math.max(...this.#settings.size)) };
  }

  /** Send the request for one picture, and show its events in its pane. */
  async #drawOne({ kind, pane, signal, isSeedFixed, files, drawn, values }) {
    const { prompt, sheet, drawing } = drawn;
    const scribble = await drawn.png;
    signal.throwIfAborted();
    const form = this.#form(kind, { prompt, ...values }, { ...files, [this.#config.image]: scribble });
    for await (const [name, data] of this.#server.draw(this.#config.endpoint, form, signal)) {
      if (name === "queued") pane.queued(data);
      else if (name === "progress") {
        if (kind === "finishing") delete data.preview; // the draft stays visible
        if (data.preview) this.#send("preview", { pane });
        pane.advance(data);
      } else if (name === "completed") {
        // JavaScript rounds seeds over 2^53, so a seed that the person entered is kept as text.
        const seed = values.seed && values.seed !== RANDOM ? values.seed : String(data.seed ?? "");
        const picture = blobOf(data[this.#config.picture]);
        if (kind === "drafting") this.#send("preview", { pane });
        const notes = (data.info?.notes ?? []).map((note) => plain(note, this.#settings.labels));
        const seconds = pane.complete(picture, { prompt, seed, notes });
        if (kind === "drafting") return;
        const kept = { ...values, seed: isSeedFixed ? seed : undefined };
        const entry = { prompt, values: kept, seed, seconds, picture, scribble, drawing, files };
        this.#send("completed", { pane, sheet, isLive: kind === "finishing", fields: entry });
        return;
      }
    }
    throw new ConnectionLost("The connection was lost.");
  }

  #form(kind, values, files) {
    const form = new FormData();
    const extra = Object.entries(FIELDS_OF[kind]).filter(([name]) => this.#config.fields.includes(name));
    for (const [name, value] of [...Object.entries(values), ...extra]) form.set(name, value);
    for (const [name, file] of Object.entries(files)) form.set(name, file, name);
    return form;
  }

  #showEnd(error, kind, pane) {
    const at = pane.stepText && ` at ${pane.stepText}`;
    if (error.name === "AbortError") pane.end(`Stopped${at}`);
    else if (error instanceof ConnectionLost) {
      pane.end(`Interrupted${at}`);
      this.#say(this.#messages.result, `The connection was lost${at || " before the first step"}. Connecting again …`);
      this.#server.reconnect();
    } else if (error instanceof Problem) {
      pane.end("No picture");
      const isWaitedFor = kind !== "asked" && error.retryAfter; // live mode shows this itself
      if (!isWaitedFor) this.#showProblem(error, kind);
    } else {
      pane.end("No picture");
      this.#say(this.#messages.result, `This page has an error: ${error.message}`);
      throw error;
    }
  }

  #clearMessages() {
    this.#revokers = [];
    for (const message of Object.values(this.#messages)) message.clear();
    this.#settings.clear();
  }

  /** Show each problem beside its field, or on the picture's pane if the page has no such field. */
  #showProblem(problem, kind) {
    if (problem.status === 401) {
      this.#server.lock(problem);
      return;
    }
    const { prompt, scribble } = this.#messages;
    let isUnassigned = problem.errors.length === 0;
    for (const { pointer, code, detail } of problem.errors) {
      const [, field] = pointer.split("/"); // "#/loras/0/name" is about loras
      const message = { prompt, [this.#config.image]: scribble }[field] ?? this.#settings.messageOf(field);
      if (this.#settings.messageOf(field)) this.#settings.unfold();
      if (message) this.#say(message, inWords({ code, detail }, this.#settings.labels));
      if (kind === "asked") message?.focus(); // in live mode the person is drawing
      isUnassigned ||= !message;
    }
    if (isUnassigned) this.#showUnassigned(inWords({ code: problem.code, detail: problem.message }, this.#settings.labels), problem.retryAfter);
    if (problem.status === 503 && problem.code !== "overloaded") this.#server.poll();
  }

  #showUnassigned(text, retryAfter) {
    const { result } = this.#messages;
    if (!retryAfter) {
      this.#say(result, text);
      return;
    }
    result.clear(); // ends the wait of the message before
    this.#waits(true);
    result.errorFor(retryAfter, text, (isOver) => {
      this.#waits(false);
      if (isOver) result.noteBriefly("You can draw again now.");
    });
  }

  /** Show an error, or a note, until the next picture. */
  #say(message, text, kind = "error") {
    this.#revokers.push(message[kind](text));
  }

  /** Whether a person has to wait before the next picture. */
  #waits(isWaiting) {
    this.isWaiting = isWaiting;
    this.#send("wait");
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** The values of one of several pictures. Each seed follows the one before; random seeds stay random. */
function withSeed(values, index) {
  if (!index || !/^\d+$/.test(values.seed)) return values;
  return { ...values, seed: String((BigInt(values.seed) + BigInt(index)) % (LAST_SEED + 1n)) };
}
