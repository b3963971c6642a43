// SPDX-License-Identifier: Apache-2.0
// Requests to the server: the model's description, and the event stream of one picture. Uses no element of the page.

import { credentials } from "./key.js";
import { bodyOf } from "./request_body.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const KEY_MESSAGES = {
  missing_key: "This server needs an API key. Ask the person who runs it for one.",
  unknown_key: "This key is not valid. Check that you copied all of it.",
  expired_key: "This key has expired. Ask for a new one.",
};

/** An error response of the server. */
export class Problem extends Error {
  constructor({ status = 0, code = "", detail = "", errors = [] }, retryAfter = null) {
    super(detail || "Something went wrong on the server.");
    Object.assign(this, { status, code, errors, retryAfter });
  }
}

/** The server cannot be reached, or the connection to it broke. */
export class ConnectionLost extends Error {}

/** Dispatches `change` when its `state` changes: waiting, ready, gone (no connection) or locked (needs a key). */
export class Server extends EventTarget {
  state = "waiting";
  detail = "";
  description = null;
  /** Whether it could not be reached since it was last ready: more than one broken connection. */
  wasDown = false;
  #isPolling = false;

  /** Request the model's state until it is ready or a key is needed, with growing pauses. */
  async poll() {
    if (this.#isPolling) return;
    this.#isPolling = true;
    let pauseMs = FIRST_PAUSE_MS;
    while (!(await this.#pollOnce())) {
      await pause(pauseMs);
      pauseMs = Math.min(LONGEST_PAUSE_MS, 1.5 * pauseMs);
    }
    this.#isPolling = false;
  }

  async #pollOnce() {
    let model;
    try {
      const response = await fetch("playground/model", { cache: "no-store", headers: credentials() });
      if (response.status === 401 || response.status === 403) {
        this.lock(await problemOf(response));
        return true;
      }
      if (!response.ok) throw new ConnectionLost();
      model = await response.json();
    } catch {
      this.wasDown = true;
      this.#become("gone", "The server cannot be reached.");
      return false;
    }
    this.description = model.description ?? this.description;
    this.#become(model.ready ? "ready" : "waiting", model.detail ?? "");
    return model.ready;
  }

  #become(state, detail) {
    const isNew = state !== this.state || detail !== this.detail;
    [this.state, this.detail] = [state, detail];
    if (isNew) this.dispatchEvent(new Event("change"));
  }

  /** The server needs a key, or another one. */
  lock({ code, message }) {
    [this.state, this.detail] = ["locked", KEY_MESSAGES[code] ?? message.replaceAll("`", "")];
    this.dispatchEvent(new Event("change"));
  }

  /** The connection broke: show it, and try again until the server responds. */
  reconnect() {
    this.#become("gone", "The connection was lost.");
    this.poll();
  }

  /** Yields the events of one picture as `[name, data]`. Aborting `signal` cancels the request. */
  async *draw(path, form, signal) {
    const { body, headers } = await bodyOf(form);
    Object.assign(headers, { Accept: "text/event-stream", ...credentials() });
    const response = await connected(fetch(path, { method: "POST", body, headers, signal }));
    if (!response.ok) throw await problemOf(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await connected(reader.read());
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

/** Throws `ConnectionLost` for a network failure. An abort stays an `AbortError`. */
async function connected(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ConnectionLost("The connection was lost.");
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  return new Problem({ status: response.status, ...body }, retryAfter);
}

/** Parses one event of the stream. A comment has no name. */
function eventOf(block) {
  let name = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data += line.slice(5);
  }
  return [name, data ? JSON.parse(data) : {}];
}

/** Waits, or returns at once when the person comes back to the page. */
function pause(ms) {
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
