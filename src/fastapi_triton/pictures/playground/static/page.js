// SPDX-License-Identifier: Apache-2.0
// Connects the parts of the page: buttons, keys, files, and the course of one picture.

import { History } from "./history.js";
import { NotAPicture, inkOf, open } from "./ink.js";
import { KeyForm } from "./key.js";
import { PicturePane, blobOf } from "./picture.js";
import { Message } from "./messages.js";
import { Scribble } from "./scribble.js";
import { ConnectionLost, Problem, Server } from "./server.js";
import { Settings } from "./settings.js";

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

const config = JSON.parse(byId("config").textContent);
const server = new Server();
const scribble = new Scribble(byId("scribble"), byId("crosshair"));
const history = new History();
const settings = new Settings({ fold: byId("fold"), host: byId("settings"), summary: byId("in-short"), accepted: config.fields });
const pane = new PicturePane({
  image: byId("picture"), frame: byId("frame"), caption: byId("caption"), progress: byId("progress"), spoken: byId("spoken"),
});
const messages = { scribble: Message.of("scribble"), prompt: Message.of("prompt"), result: new Message(byId("result-error")) };
const keyForm = new KeyForm(byId("unlock"), byId("key"), Message.of("key"), () => server.poll());

let running = null; // the AbortController of the request that runs
let shown = null; // the history entry whose picture is in the pane

// ---- one picture

async function draw({ seed } = {}) {
  if (running) {
    messages.prompt.note("Your picture is still being drawn. Press Stop to start another.");
    return;
  }
  for (const message of Object.values(messages)) message.clear();
  settings.clear();
  const prompt = byId("prompt").value.trim();
  if (!isComplete(prompt)) return;
  if (server.state === "locked") {
    keyForm.open(server.detail);
    return;
  }
  if (server.state !== "ready") {
    const reason = server.detail ? ` Reason: ${server.detail.replaceAll("`", "")}` : "";
    messages.result.note(`The model is not ready yet. You can draw when the light above turns green.${reason}`);
    return;
  }
  running = new AbortController();
  busy(true);
  pane.begin();
  const values = { ...settings.values(), ...(seed === undefined ? {} : { seed }) };
  try {
    await watch(prompt, values, running.signal);
  } catch (error) {
    showEnd(error);
  } finally {
    running = null;
    busy(false);
  }
}

/** Whether there is a scribble and a prompt; shows a message for each that is missing. */
function isComplete(prompt) {
  const missing = [];
  if (!scribble.hasInk()) {
    messages.scribble.error("The canvas is empty. Draw something, load a picture, or choose an example.");
    missing.push(messages.scribble);
  }
  if (!prompt) {
    messages.prompt.error("Say what your scribble shows, for example “a red house in the snow”.");
    missing.push(messages.prompt);
  }
  missing[0]?.focus();
  return missing.length === 0;
}

async function watch(prompt, values, signal) {
  const drawn = await scribble.toBlob(Math.max(...settings.size));
  const form = new FormData();
  form.set("prompt", prompt);
  for (const [name, value] of Object.entries(values)) form.set(name, value);
  form.set(config.image, drawn, "scribble.png");
  for await (const [name, data] of server.draw(config.endpoint, form, signal)) {
    if (name === "queued") pane.queued(data);
    else if (name === "progress") {
      if (data.preview) setShown(null);
      pane.advance(data);
    } else if (name === "completed") {
      // JavaScript rounds seeds over 2^53, so a seed that the person entered is kept as text.
      const seed = values.seed ?? String(data.seed ?? "");
      const picture = blobOf(data[config.picture]);
      const seconds = pane.complete(picture, { prompt, seed });
      await addToHistory({ prompt, values: { ...values, seed: undefined }, seed, seconds, picture, scribble: drawn });
      return;
    }
  }
  throw new ConnectionLost("The connection was lost.");
}

function showEnd(error) {
  const at = pane.stepText && ` at ${pane.stepText}`;
  if (error.name === "AbortError") pane.end(`Stopped${at}`);
  else if (error instanceof ConnectionLost) {
    pane.end(`Interrupted${at}`);
    messages.result.error(`The connection was lost${at || " before the first step"}. Connecting again …`);
    server.reconnect();
  } else if (error instanceof Problem) {
    pane.end("No picture");
    showProblem(error);
  } else {
    pane.end("No picture");
    messages.result.error(`This page has an error: ${error.message}`);
    throw error;
  }
}

/** Show each problem beside its field, or on the picture's pane if the page has no such field. */
function showProblem(problem) {
  if (problem.status === 401) {
    server.lock(problem);
    return;
  }
  let isUnassigned = problem.errors.length === 0;
  for (const { pointer, detail } of problem.errors) {
    const field = pointer.replace(/^#\//, "");
    const message = { prompt: messages.prompt, [config.image]: messages.scribble }[field] ?? settings.messageOf(field);
    if (settings.messageOf(field)) settings.unfold();
    message?.error(detail.replaceAll("`", ""));
    message?.focus();
    isUnassigned ||= !message;
  }
  if (isUnassigned) {
    const when = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
    messages.result.error(problem.message.replaceAll("`", "") + when);
  }
  if (problem.status === 503 && problem.code !== "overloaded") server.poll();
}

function busy(isBusy) {
  const hadFocus = document.activeElement === byId("stop");
  byId("stop").disabled = !isBusy;
  byId("result").ariaBusy = String(isBusy);
  if (hadFocus && !isBusy) byId("draw").focus();
  updateButtons();
  if (isBusy && byId("frame").getBoundingClientRect().top > window.innerHeight * 0.7) {
    byId("result").scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone the pane is below the window
  }
}

// ---- the finished picture

function setShown(entry) {
  shown = entry;
  updateButtons();
  for (const each of byId("history").querySelectorAll(".kept")) {
    if (entry && Number(each.dataset.id) === entry.id) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
}

function updateButtons() {
  for (const id of ["again", "reuse", "download"]) byId(id).disabled = !shown || Boolean(running && id === "again");
}

async function addToHistory(fields) {
  const entry = await history.add(fields);
  listHistory();
  setShown(entry);
}

function download({ picture, prompt, seed }) {
  const name = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60).replace(/^-|-$/g, "");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(picture) });
  link.download = `${name || "picture"}-${seed}.${picture.type.split("/")[1]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function load(file, how) {
  messages.scribble.clear();
  try {
    const { ink, isTraced } = inkOf(await open(file), scribble.size, how);
    scribble.replace(ink);
    if (isTraced && !how) messages.scribble.note("This is not a line drawing, so the page traced its outlines. Press Undo to remove them.");
  } catch (error) {
    if (!(error instanceof NotAPicture)) throw error;
    messages.scribble.error(error.message);
  }
}

// ---- history

async function recall(entry) {
  if (running) {
    messages.prompt.note("Your picture is still being drawn. Press Stop to see an earlier one.");
    return;
  }
  for (const message of Object.values(messages)) message.clear();
  settings.restore(entry.values);
  byId("prompt").value = entry.prompt;
  scribble.replace(inkOf(await open(entry.scribble), scribble.size, "lines").ink);
  pane.show(entry.picture, entry);
  setShown(entry);
}

function listHistory() {
  const list = byId("history");
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...history.entries.map(item));
  byId("forget").hidden = history.entries.length === 0;
  byId("history-note").textContent = history.isStored
    ? "Your pictures are stored here, in this browser only."
    : "This browser stores nothing, so you lose your pictures when you close the page.";
}

function item(entry) {
  const button = make("button", { type: "button", className: "kept", ariaLabel: `${entry.prompt}, seed ${entry.seed}`, title: entry.prompt });
  button.dataset.id = entry.id;
  button.append(make("img", { src: URL.createObjectURL(entry.picture), alt: "", width: 92, height: 92 }));
  button.addEventListener("click", () => recall(entry));
  const drop = make("button", { type: "button", className: "drop", ariaLabel: `Remove from history: ${entry.prompt}` });
  drop.append(byId("clear").firstElementChild.cloneNode(true));
  drop.querySelector("use").setAttribute("href", "#i-close");
  drop.addEventListener("click", async () => {
    await history.remove(entry.id);
    listHistory();
    setShown(shown?.id === entry.id ? null : shown);
    byId("history").querySelector("button")?.focus();
  });
  const row = make("li", {});
  row.append(button, drop);
  return row;
}

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// ---- tools

function choose(tool) {
  scribble.tool = tool;
  for (const each of ["brush", "eraser"]) byId(each).ariaPressed = String(each === tool);
}

function changeWidth(by) {
  byId("width").value = Number(byId("width").value) + by;
  scribble.width = Number(byId("width").value);
}

on("brush", "click", () => choose("brush"));
on("eraser", "click", () => choose("eraser"));
on("width", "input", () => changeWidth(0));
on("undo", "click", () => scribble.undo());
on("redo", "click", () => scribble.redo());
on("clear", "click", () => scribble.clear());
on("load", "click", () => byId("file").click());
on("file", "change", ({ target }) => {
  if (target.files[0]) load(target.files[0]);
  target.value = "";
});
scribble.addEventListener("change", () => {
  byId("undo").disabled = !scribble.canUndo;
  byId("redo").disabled = !scribble.canRedo;
  byId("clear").disabled = scribble.isBlank;
  byId("invitation").hidden = !scribble.isBlank;
  byId("scribble").ariaLabel = scribble.isBlank ? "Scribble, empty" : "Scribble, not empty";
  if (!scribble.isBlank) messages.scribble.clear();
});
on("scribble", "pointerdown", () => {
  byId("invitation").hidden = true;
  messages.scribble.clear();
});

document.addEventListener("paste", (event) => {
  const file = event.clipboardData.files[0];
  const isText = event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain");
  if (!file || isText) return; // the text field pastes text itself
  event.preventDefault();
  load(file);
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    byId("paper").classList.add("dropping");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("paper").classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  byId("paper").classList.remove("dropping");
  if (!event.dataTransfer.files[0]) return;
  event.preventDefault();
  load(event.dataTransfer.files[0]);
});

// ---- keys

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=range]), textarea, select");
  const key = event.key.toLowerCase();
  const withCtrl = event.ctrlKey || event.metaKey;
  if (withCtrl && key === "enter") draw();
  else if (withCtrl && !isTyping && key === "z") event.shiftKey ? scribble.redo() : scribble.undo();
  else if (withCtrl && !isTyping && key === "y") scribble.redo();
  else if (key === "escape" && running) running.abort();
  // Single letters only while the canvas has the focus: elsewhere they are typed text, or a screen reader's shortcuts.
  else if (event.target === byId("scribble") && !withCtrl && { b: 1, e: 1, "[": 1, "]": 1 }[key]) {
    if (key === "b" || key === "e") choose(key === "b" ? "brush" : "eraser");
    else changeWidth(key === "[" ? -4 : 4);
  } else return;
  event.preventDefault();
});
on("prompt", "keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  event.preventDefault();
  draw();
});
on("prompt", "input", () => messages.prompt.clear());

// ---- buttons

on("composer", "submit", (event) => {
  event.preventDefault();
  draw();
});
on("stop", "click", () => running?.abort());
on("again", "click", async () => {
  await draw({ seed: "-1" }); // a random one
});
on("reuse", "click", async () => {
  await load(shown.picture, "outlines");
  byId("drawing").scrollIntoView({ block: "nearest", behavior: "smooth" });
});
on("download", "click", () => download(shown));
on("forget", "click", async () => {
  await history.clear();
  listHistory();
  setShown(null);
});

// ---- theme

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

on("theme", "click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  byId("theme").ariaPressed = String(theme === "dark");
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // The browser stores nothing: the theme is lost when the page is closed.
  }
});
byId("theme").ariaPressed = String(isDark());

// ---- start

server.addEventListener("change", () => {
  const wasGone = byId("status").dataset.state === "gone";
  byId("status").dataset.state = server.state;
  const texts = { ready: "Ready", waiting: "Waiting for the model …", gone: "No connection. Trying again …", locked: "Needs an API key" };
  byId("status").firstElementChild.textContent = texts[server.state];
  byId("model").textContent = (server.state === "ready" && server.description?.name) || "";
  byId("status").title = server.detail;
  if (server.state === "locked") keyForm.open(server.detail);
  else if (server.state === "ready" && keyForm.close()) byId("prompt").focus();
  if (server.state === "ready") {
    settings.describe(server.description ?? {});
    if (wasGone) messages.result.note("The server is back. Press Draw to try again.");
    else messages.result.clear();
  }
});
settings.addEventListener("change", () => {
  const [width, height] = settings.size;
  document.documentElement.style.setProperty("--ratio", String(width / height));
  scribble.setShape(width, height);
});
if (!byId("docs").getAttribute("href")) byId("docs").hidden = true;
byId("examples").append(
  ...config.examples.map(({ prompt, file }) => {
    const button = make("button", { type: "button", className: "example", title: prompt });
    button.append(make("img", { src: file, alt: "", width: 40, height: 40 }), make("span", { textContent: prompt }));
    button.addEventListener("click", async () => {
      byId("prompt").value = prompt;
      messages.prompt.clear();
      await load(await (await fetch(file)).blob());
    });
    return button;
  }),
);
server.poll();
history.load().then(listHistory);
