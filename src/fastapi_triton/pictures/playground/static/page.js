// SPDX-License-Identifier: Apache-2.0
// Joins the parts: what the buttons, keys and files do, and one picture from Draw to its end.

import { History } from "./history.js";
import { NotAPicture, inkOf, open } from "./ink.js";
import { KeyForm } from "./key.js";
import { PicturePane, blobOf } from "./picture.js";
import { Place } from "./messages.js";
import { Scribble } from "./scribble.js";
import { Gone, Problem, Server } from "./server.js";
import { Settings } from "./settings.js";

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

const known = JSON.parse(byId("known").textContent);
const server = new Server();
const scribble = new Scribble(byId("scribble"), byId("crosshair"));
const history = new History();
const settings = new Settings({ fold: byId("fold"), host: byId("settings"), short: byId("in-short"), accepted: known.fields });
const pane = new PicturePane({
  image: byId("picture"), frame: byId("frame"), caption: byId("caption"), progress: byId("progress"), spoken: byId("spoken"),
});
const places = { scribble: Place.of("scribble"), prompt: Place.of("prompt"), result: new Place(byId("result-error")) };
const keyForm = new KeyForm(byId("unlock"), byId("key"), Place.of("key"), () => server.ask());

let underWay = null; // the AbortController of the picture that is being drawn
let shown = null; // the history entry whose picture is in the pane

// ---- one picture

async function draw({ seed } = {}) {
  if (underWay) {
    places.prompt.note("This picture is still being drawn. Stop it to begin another.");
    return;
  }
  for (const place of Object.values(places)) place.clear();
  settings.clear();
  const prompt = byId("prompt").value.trim();
  if (!isComplete(prompt)) return;
  if (server.state === "locked") {
    keyForm.ask(server.detail);
    return;
  }
  if (server.state !== "ready") {
    places.result.note(`${server.detail || "The model is not ready yet."} You can draw as soon as the light above is green.`);
    return;
  }
  underWay = new AbortController();
  busy(true);
  pane.begin();
  const values = { ...settings.values(), ...(seed === undefined ? {} : { seed }) };
  try {
    await watch(prompt, values, underWay.signal);
  } catch (error) {
    ended(error);
  } finally {
    underWay = null;
    busy(false);
  }
}

/** Says what is missing, all of it at once. */
function isComplete(prompt) {
  const missing = [];
  if (!scribble.hasInk()) {
    places.scribble.wrong("The canvas is empty. Draw something first, load a picture, or choose an example.");
    missing.push(places.scribble);
  }
  if (!prompt) {
    places.prompt.wrong("Say what it is: the prompt is empty.");
    missing.push(places.prompt);
  }
  missing[0]?.focus();
  return missing.length === 0;
}

async function watch(prompt, values, signal) {
  const drawn = await scribble.toBlob(Math.max(...settings.size));
  const form = new FormData();
  form.set("prompt", prompt);
  for (const [name, value] of Object.entries(values)) form.set(name, value);
  form.set(known.image, drawn, "scribble.png");
  for await (const [name, data] of server.draw(known.endpoint, form, signal)) {
    if (name === "queued") pane.queued(data);
    else if (name === "progress") {
      if (data.preview) setShown(null);
      pane.advance(data);
    } else if (name === "completed") {
      // A seed over 2^53 would not survive JSON in a browser; the one that was asked for is known as text.
      const seed = values.seed ?? String(data.seed ?? "");
      const picture = blobOf(data[known.picture]);
      const seconds = pane.complete(picture, { prompt, seed });
      await keep({ prompt, values: { ...values, seed: undefined }, seed, seconds, picture, scribble: drawn });
      return;
    }
  }
  throw new Gone("The server went away.");
}

function ended(error) {
  const where = pane.where && ` at ${pane.where}`;
  if (error.name === "AbortError") pane.end(`Stopped${where}`);
  else if (error instanceof Gone) {
    pane.end(`Broken off${where}`);
    places.result.wrong(`The server went away${where || " before the first step"}. Looking for it …`);
    server.lost();
  } else if (error instanceof Problem) {
    pane.end("No picture");
    refused(error);
  } else {
    pane.end("No picture");
    places.result.wrong(`The page failed: ${error.message}`);
    throw error;
  }
}

/** Each problem beside the field that it names; what has no field here, beside the picture. */
function refused(problem) {
  if (problem.status === 401) {
    server.lock(problem);
    return;
  }
  let unplaced = problem.errors.length === 0;
  for (const { pointer, detail } of problem.errors) {
    const field = pointer.replace(/^#\//, "");
    const place = { prompt: places.prompt, [known.image]: places.scribble }[field] ?? settings.placeOf(field);
    if (settings.placeOf(field)) settings.unfold();
    place?.wrong(detail.replaceAll("`", ""));
    place?.focus();
    unplaced ||= !place;
  }
  if (unplaced) {
    const when = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
    places.result.wrong(problem.message.replaceAll("`", "") + when);
  }
  if (problem.status === 503 && problem.code !== "overloaded") server.ask();
}

function busy(isBusy) {
  const hadFocus = document.activeElement === byId("stop");
  byId("stop").disabled = !isBusy;
  byId("result").ariaBusy = String(isBusy);
  if (hadFocus && !isBusy) byId("draw").focus();
  offer();
  if (isBusy && byId("frame").getBoundingClientRect().top > window.innerHeight * 0.7) {
    byId("result").scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone it lies below
  }
}

// ---- what can be done with a picture

function setShown(entry) {
  shown = entry;
  offer();
  for (const each of byId("history").querySelectorAll(".kept")) {
    if (entry && Number(each.dataset.id) === entry.id) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
}

function offer() {
  for (const id of ["again", "reuse", "download"]) byId(id).disabled = !shown || Boolean(underWay && id === "again");
}

async function keep(fields) {
  const entry = await history.add(fields);
  listHistory();
  setShown(entry);
}

function download({ picture, prompt, seed }) {
  const words = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60).replace(/^-|-$/g, "");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(picture) });
  link.download = `${words || "picture"}-${seed}.${picture.type.split("/")[1]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function load(file, how) {
  places.scribble.clear();
  try {
    const { ink, isTraced } = inkOf(await open(file), scribble.size, how);
    scribble.replace(ink);
    if (isTraced && !how) places.scribble.note("That was no line drawing, so its outlines were traced. Undo takes it back.");
  } catch (error) {
    if (!(error instanceof NotAPicture)) throw error;
    places.scribble.wrong(error.message);
  }
}

// ---- history

async function recall(entry) {
  if (underWay) {
    places.prompt.note("A picture is still being drawn. Stop it to look at an earlier one.");
    return;
  }
  for (const place of Object.values(places)) place.clear();
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
  byId("history-note").textContent = history.isKept
    ? "Pictures that you make are kept here, in this browser only."
    : "This browser keeps nothing, so these last until the page is closed.";
}

function item(entry) {
  const keptButton = make("button", { type: "button", className: "kept", ariaLabel: `${entry.prompt}, seed ${entry.seed}`, title: entry.prompt });
  keptButton.dataset.id = entry.id;
  keptButton.append(make("img", { src: URL.createObjectURL(entry.picture), alt: "", width: 92, height: 92 }));
  keptButton.addEventListener("click", () => recall(entry));
  const drop = make("button", { type: "button", className: "drop", ariaLabel: `Remove from the history: ${entry.prompt}` });
  drop.append(byId("clear").firstElementChild.cloneNode(true));
  drop.querySelector("use").setAttribute("href", "#i-close");
  drop.addEventListener("click", async () => {
    await history.remove(entry.id);
    listHistory();
    setShown(shown?.id === entry.id ? null : shown);
    byId("history").querySelector("button")?.focus();
  });
  const row = make("li", {});
  row.append(keptButton, drop);
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

function widen(by) {
  byId("width").value = Number(byId("width").value) + by;
  scribble.width = Number(byId("width").value);
}

on("brush", "click", () => choose("brush"));
on("eraser", "click", () => choose("eraser"));
on("width", "input", () => widen(0));
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
  byId("scribble").ariaLabel = scribble.isBlank ? "Scribble, empty" : "Scribble, drawn on";
  if (!scribble.isBlank) places.scribble.clear();
});
on("scribble", "pointerdown", () => {
  byId("invitation").hidden = true;
  places.scribble.clear();
});

document.addEventListener("paste", (event) => {
  const file = event.clipboardData.files[0];
  const isText = event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain");
  if (!file || isText) return; // text goes where the cursor is
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
  else if (key === "escape" && underWay) underWay.abort();
  // Single letters only where the canvas has the focus: elsewhere they belong to whoever types, or to a screen reader.
  else if (event.target === byId("scribble") && !withCtrl && { b: 1, e: 1, "[": 1, "]": 1 }[key]) {
    if (key === "b" || key === "e") choose(key === "b" ? "brush" : "eraser");
    else widen(key === "[" ? -4 : 4);
  } else return;
  event.preventDefault();
});
on("prompt", "keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  event.preventDefault();
  draw();
});
on("prompt", "input", () => places.prompt.clear());

// ---- buttons

on("composer", "submit", (event) => {
  event.preventDefault();
  draw();
});
on("stop", "click", () => underWay?.abort());
on("again", "click", async () => {
  await draw({ seed: "-1" });
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
    // It lasts until the page is closed.
  }
});
byId("theme").ariaPressed = String(isDark());

// ---- the start

server.addEventListener("change", () => {
  const wasGone = byId("status").dataset.state === "gone";
  byId("status").dataset.state = server.state;
  const words = { ready: "Ready", waiting: "Waiting for the model …", gone: "Server gone, looking for it …", locked: "Needs an API key" };
  byId("status").firstElementChild.textContent = words[server.state];
  byId("model").textContent = (server.state === "ready" && server.description?.name) || "";
  byId("status").title = server.detail;
  if (server.state === "locked") keyForm.ask(server.detail);
  else if (server.state === "ready" && keyForm.close()) byId("prompt").focus();
  if (server.state === "ready") {
    settings.describe(server.description ?? {});
    if (wasGone) places.result.note("The server is back. Draw again whenever you like.");
    else places.result.clear();
  }
});
settings.addEventListener("change", () => {
  const [width, height] = settings.size;
  document.documentElement.style.setProperty("--ratio", String(width / height));
  scribble.shape(width, height);
});
if (!byId("docs").getAttribute("href")) byId("docs").hidden = true;
byId("examples").append(
  ...known.examples.map(({ prompt, file }) => {
    const button = make("button", { type: "button", className: "example", title: prompt });
    button.append(make("img", { src: file, alt: "", width: 40, height: 40 }), make("span", { textContent: prompt }));
    button.addEventListener("click", async () => {
      byId("prompt").value = prompt;
      places.prompt.clear();
      await load(await (await fetch(file)).blob());
    });
    return button;
  }),
);
server.ask();
history.load().then(listHistory);
