// SPDX-License-Identifier: Apache-2.0
// The way to the server: what its model says of itself, and the events of one picture. Knows no element of the page.

import { credentials } from "./key.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const LOCKED = {
  missing_key: "This server asks for an API key. Whoever runs it has one for you.",
  unknown_key: "The server does not know this key. Is it whole?",
  expired_key: "This key's time is over. Ask for a new one.",
};

/** What the server answered instead of a picture, in its own words. */
export class Problem extends Error {
  constructor({ status = 0, code = "", detail = "", errors = [] }, retryAfter = null) {
    super(detail || "The server could not do this.");
    Object.assign(this, { status, code, errors, retryAfter });
  }
}

/** The connection broke, or there never was one. */
export class Gone extends Error {}

/**
 * Tells `change` when its `state` does: waiting, ready, gone or locked. It asks by itself until the model is ready, or a
 * key is needed.
 */
export class Server extends EventTarget {
  state = "waiting";
  detail = "";
  description = null;
  #asking = false;

  /** Ask until the model is ready: more and more seldom, and at once when the person comes back to the page. */
  async ask() {
    if (this.#asking) return;
    this.#asking = true;
    let pause = FIRST_PAUSE_MS;
    while (!(await this.#askOnce())) {
      await rest(pause);
      pause = Math.min(LONGEST_PAUSE_MS, 1.5 * pause);
    }
    this.#asking = false;
  }

  async #askOnce() {
    let told;
    try {
      const answer = await fetch("playground/model", { cache: "no-store", headers: credentials() });
      if (answer.status === 401 || answer.status === 403) {
        this.lock(await problemOf(answer));
        return true;
      }
      if (!answer.ok) throw new Gone();
      told = await answer.json();
    } catch {
      this.#become("gone", "The server cannot be reached.");
      return false;
    }
    this.description = told.description ?? this.description;
    this.#become(told.ready ? "ready" : "waiting", told.detail ?? "");
    return told.ready;
  }

  #become(state, detail) {
    const isNew = state !== this.state || detail !== this.detail;
    [this.state, this.detail] = [state, detail];
    if (isNew) this.dispatchEvent(new Event("change"));
  }

  /** It wants a key, or another one. */
  lock({ code, message }) {
    [this.state, this.detail] = ["locked", LOCKED[code] ?? message.replaceAll("`", "")];
    this.dispatchEvent(new Event("change"));
  }

  /** The connection broke: say so, and look for it until it is back. */
  lost() {
    this.#become("gone", "The server went away.");
    this.ask();
  }

  /** The events of one picture as `[name, data]`. Leaving, by `signal`, stops the work. */
  async *draw(path, form, signal) {
    const answer = await reach(fetch(path, { method: "POST", body: form, headers: { Accept: "text/event-stream", ...credentials() }, signal }));
    if (!answer.ok) throw await problemOf(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reach(reader.read());
      if (done) return;
      text += value.replaceAll("\r", "");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const [name, data] = eventOf(block);
        if (name === "error") throw new Problem(data, data.retry_after_s ?? null);
        if (name) yield [name, data];
      }
    }
  }
}

/** A network failure as `Gone`; being stopped stays what it is. */
async function reach(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("The server went away.");
  }
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const retryAfter = Number(answer.headers.get("Retry-After")) || null;
  return new Problem({ status: answer.status, ...told }, retryAfter);
}

/** One block of lines of the stream; a comment has no name. */
function eventOf(block) {
  let name = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data += line.slice(5);
  }
  return [name, data ? JSON.parse(data) : {}];
}

/** A pause, cut short when the person comes back to the page. */
function rest(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    document.addEventListener("visibilitychange", done);
  });
}
