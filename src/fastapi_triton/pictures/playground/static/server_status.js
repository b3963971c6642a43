// SPDX-License-Identifier: Apache-2.0
// Shows whether the server is ready, and which model it has.

const TEXTS = { ready: "Ready", waiting: "Waiting for the model …", gone: "No connection. Trying again …", locked: "Needs an API key" };

/** Shows the state of a `Server` in the header. `message`: the one on the picture, for the end of an outage. */
export class ServerStatus {
  #server;
  #message;
  #host;
  #model;
  #about;

  /** `host`: the light, whose first child has the text. `about`: what the model says about itself. */
  constructor(server, message, { host, model, about }) {
    [this.#server, this.#message, this.#host, this.#model, this.#about] = [server, message, host, model, about];
    server.addEventListener("change", () => this.#update());
  }

  #update() {
    const { state, detail, description } = this.#server;
    const wasGone = this.#host.dataset.state === "gone";
    this.#host.dataset.state = state;
    this.#host.firstElementChild.textContent = TEXTS[state];
    this.#host.title = detail;
    this.#model.textContent = (state === "ready" && description?.name) || "";
    if (state !== "ready") return;
    this.#about.textContent = description?.about ?? "";
    if (this.#server.wasDown) this.#message.noteBriefly("The server is back. Press Draw to try again.");
    else if (!wasGone) this.#message.clear();
    else this.#message.noteBriefly("The connection was lost. Press Draw to try again.");
    this.#server.wasDown = false;
  }
}
