// SPDX-License-Identifier: Apache-2.0
// The course of one picture: what is missing, the request, its previews, and its end.

import { blobOf } from "./picture.js";
import { ConnectionLost, Problem } from "./server.js";

/**
 * Dispatches `change` when a picture starts or ends, `preview` with each preview, and `completed` with the picture
 * (detail: the fields of a history entry).
 */
export class DrawingRun extends EventTarget {
  #running = null; // the AbortController of the request that runs
  #config;
  #server;
  #scribble;
  #settings;
  #pane;
  #messages;
  #prompt;
  #askForKey;

  /** `prompt`: the text field. `messages`: beside the scribble, the prompt and the result. */
  constructor({ config, server, scribble, settings, pane, messages, prompt, askForKey }) {
    super();
    this.#config = config;
    this.#server = server;
    this.#scribble = scribble;
    this.#settings = settings;
    this.#pane = pane;
    this.#messages = messages;
    this.#prompt = prompt;
    this.#askForKey = askForKey;
  }

  get isRunning() {
    return this.#running !== null;
  }

  stop() {
    this.#running?.abort();
  }

  async start({ seed } = {}) {
    if (this.isRunning) {
      this.#messages.prompt.note("Your picture is still being drawn. Press Stop to start another.");
      return;
    }
    for (const message of Object.values(this.#messages)) message.clear();
    this.#settings.clear();
    const prompt = this.#prompt.value.trim();
    if (!this.#isComplete(prompt)) return;
    if (this.#server.state === "locked") {
      this.#askForKey(this.#server.detail);
      return;
    }
    if (this.#server.state !== "ready") {
      const reason = this.#server.detail ? ` Reason: ${this.#server.detail.replaceAll("`", "")}` : "";
      this.#messages.result.note(`The model is not ready yet. You can draw when the light above turns green.${reason}`);
      return;
    }
    this.#running = new AbortController();
    this.#send("change");
    this.#pane.begin();
    const values = { ...this.#settings.values(), ...(seed === undefined ? {} : { seed }) };
    try {
      await this.#watch(prompt, values, this.#running.signal);
    } catch (error) {
      this.#showEnd(error);
    } finally {
      this.#running = null;
      this.#send("change");
    }
  }

  /** Whether there is a scribble and a prompt; shows a message for each that is missing. */
  #isComplete(prompt) {
    const missing = [];
    if (!this.#scribble.hasInk()) {
      this.#messages.scribble.error("The canvas is empty. Draw something, load a picture, or choose an example.");
      missing.push(this.#messages.scribble);
    }
    if (!prompt) {
      this.#messages.prompt.error("Say what your scribble shows, for example “a red house in the snow”.");
      missing.push(this.#messages.prompt);
    }
    missing[0]?.focus();
    return missing.length === 0;
  }

  async #watch(prompt, values, signal) {
    const { endpoint, image, picture: pictureField } = this.#config;
    const scribble = await this.#scribble.toBlob(Math.max(...this.#settings.size));
    const form = new FormData();
    form.set("prompt", prompt);
    for (const [name, value] of Object.entries(values)) form.set(name, value);
    form.set(image, scribble, "scribble.png");
    for await (const [name, data] of this.#server.draw(endpoint, form, signal)) {
      if (name === "queued") this.#pane.queued(data);
      else if (name === "progress") {
        if (data.preview) this.#send("preview");
        this.#pane.advance(data);
      } else if (name === "completed") {
        // JavaScript rounds seeds over 2^53, so a seed that the person entered is kept as text.
        const seed = values.seed ?? String(data.seed ?? "");
        const picture = blobOf(data[pictureField]);
        const seconds = this.#pane.complete(picture, { prompt, seed });
        this.#send("completed", { prompt, values: { ...values, seed: undefined }, seed, seconds, picture, scribble });
        return;
      }
    }
    throw new ConnectionLost("The connection was lost.");
  }

  #showEnd(error) {
    const at = this.#pane.stepText && ` at ${this.#pane.stepText}`;
    if (error.name === "AbortError") this.#pane.end(`Stopped${at}`);
    else if (error instanceof ConnectionLost) {
      this.#pane.end(`Interrupted${at}`);
      this.#messages.result.error(`The connection was lost${at || " before the first step"}. Connecting again …`);
      this.#server.reconnect();
    } else if (error instanceof Problem) {
      this.#pane.end("No picture");
      this.#showProblem(error);
    } else {
      this.#pane.end("No picture");
      this.#messages.result.error(`This page has an error: ${error.message}`);
      throw error;
    }
  }

  /** Show each problem beside its field, or on the picture's pane if the page has no such field. */
  #showProblem(problem) {
    if (problem.status === 401) {
      this.#server.lock(problem);
      return;
    }
    const { prompt, scribble } = this.#messages;
    let isUnassigned = problem.errors.length === 0;
    for (const { pointer, detail } of problem.errors) {
      const field = pointer.replace(/^#\//, "");
      const message = { prompt, [this.#config.image]: scribble }[field] ?? this.#settings.messageOf(field);
      if (this.#settings.messageOf(field)) this.#settings.unfold();
      message?.error(detail.replaceAll("`", ""));
      message?.focus();
      isUnassigned ||= !message;
    }
    if (isUnassigned) {
      const when = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
      this.#messages.result.error(problem.message.replaceAll("`", "") + when);
    }
    if (problem.status === 503 && problem.code !== "overloaded") this.#server.poll();
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
