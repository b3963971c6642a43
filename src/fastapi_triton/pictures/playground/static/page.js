// SPDX-License-Identifier: Apache-2.0
// Connects the parts of the page, and starts it.

import { Compare } from "./compare.js";
import { DrawingRun } from "./drawing_run.js";
import { setUpEasel } from "./easel.js";
import { Gallery } from "./gallery.js";
import { Grid } from "./grid.js";
import { History } from "./history.js";
import { inkOf, open } from "./ink.js";
import { KeyForm } from "./key.js";
import { Live } from "./live.js";
import { LiveSwitch } from "./live_switch.js";
import { Mask } from "./mask.js";
import { Message } from "./messages.js";
import { PicturePane } from "./picture.js";
import { receiptOf } from "./receipt.js";
import { RestoredNote } from "./restored_note.js";
import { ResultActions } from "./result_actions.js";
import { Scribble } from "./scribble.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { contentOf } from "./share.js";
import { Shortcuts } from "./shortcuts.js";
import { Styles } from "./styles.js";
import { Suggestions } from "./suggestions.js";
import { Toolbar } from "./toolbar.js";
import { Workspace } from "./workspace.js";

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

const TYPING_MS = 400;

const config = JSON.parse(byId("config").textContent);
const server = new Server();
const scribble = new Scribble(byId("scribble"));
const settings = new Settings({
  fold: byId("fold"), host: byId("settings"), beside: byId("beside-settings"), summary: byId("in-short"), accepted: config.fields,
  styles: new Styles(byId("styles"), config.fields),
});
const suggestions = new Suggestions(byId("suggestions"), byId("prompt"));
const pane = new PicturePane({
  image: byId("picture"), frame: byId("frame"), caption: byId("caption"), progress: byId("progress"), spoken: byId("spoken"),
  notes: byId("notes"),
});
const messages = { scribble: Message.of("scribble"), prompt: Message.of("prompt"), result: new Message(byId("result-error")) };
const keyForm = new KeyForm(byId("unlock"), byId("key"), Message.of("key"), () => server.poll());
const toolbar = new Toolbar({ scribble, message: messages.scribble, restore: restoreFile });
setUpEasel(scribble, toolbar);
const history = new History();
const gallery = new Gallery(history);
const actions = new ResultActions(messages.result);
const compare = new Compare({
  host: byId("compare"), image: byId("compare-scribble"), slider: byId("compare-line"), button: byId("compare-open"),
});
const restored = new RestoredNote(byId("restored"), byId("restored-text"), {
  undo: byId("restored-undo"), trace: byId("restored-trace"), close: byId("restored-close"),
});
const grid = new Grid({ host: byId("grid"), back: byId("grid-back"), caption: byId("caption"), spoken: byId("spoken") });
const mask = new Mask({
  host: byId("mask"), canvas: byId("mask-canvas"), pen: byId("mask-pen"),
  tools: Object.fromEntries(["bar", "open", "width", "undo", "clear", "paint", "leave"].map((name) => [name, byId(`mask-${name}`)])),
});
new Shortcuts(byId("shortcuts"), byId("help"));
byId("mask-open").hidden = !config.fields.includes("mask");
const run = new DrawingRun({
  config, server, scribble, settings, pane, messages, prompt: byId("prompt"), askForKey: (reason) => keyForm.open(reason),
});
const live = new Live({ draw: (kind, signal) => run.live(kind, signal, live.seed), canDraw: () => run.isPossible });
const liveSwitch = new LiveSwitch({ live, button: byId("live"), note: byId("live-note"), left: byId("live-left") });
let isRestoring = false; // an earlier picture: nothing new is to be drawn
let typing; // a timer
let shown = null; // the history entry whose picture is in the pane
let replaceable = null; // the history entry that the next picture of live mode replaces

function show(entry) {
  shown = entry;
  actions.show(entry);
  compare.show(entry?.scribble ?? null);
  mask.show(entry);
  gallery.mark(entry);
  workspace.save();
}

// ---- one picture

run.addEventListener("preview", () => show(null));
run.addEventListener("completed", async ({ detail }) => {
  const { fields, pane: shownIn, isLive } = detail;
  const entry = await gallery.add(fields, isLive ? replaceable : null);
  if (isLive) replaceable = entry;
  if (shownIn !== pane) {
    shownIn.entry = entry;
    return;
  }
  keepSeed(entry);
  show(entry);
});

/** Later pictures of live mode no longer replace the one before. */
function keep() {
  replaceable = null;
}
for (const id of ["download", "copy", "share", "save-as", "mask-open"]) on(id, "click", keep); // the person uses it

/** A fixed seed stays fixed, to that of the picture. */
function keepSeed({ values: { seed } }) {
  isRestoring = true;
  if (seed) settings.restore({ seed });
  isRestoring = false;
}

run.addEventListener("change", () => {
  byId("result").ariaBusy = String(run.isRunning);
  actions.busy(run.isRunning);
  updateStop();
  if (!run.isRunning) live.wake();
  else if (byId("frame").getBoundingClientRect().top > window.innerHeight * 0.7) {
    byId("result").scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone the pane is below the window
  }
});
live.addEventListener("change", () => {
  if (live.state === "drafting") grid.close();
  updateStop();
});
run.addEventListener("wait", () => {
  byId("draw").ariaDisabled = String(run.isWaiting); // not `disabled`, which would lose the focus
  if (!run.isWaiting) live.wake();
});

function updateStop() {
  const [isActive, hadFocus] = [run.isRunning || live.isActive, document.activeElement === byId("stop")];
  byId("stop").disabled = !isActive;
  if (hadFocus && !isActive) byId("draw").focus();
}

/** Draw the finished picture now. In live mode it is that of the drafts, unless `seed` is another one. */
async function draw({ seed } = {}) {
  if (!run.isRunning) live.stop();
  keep();
  if (live.isOn && seed) live.renewSeed();
  const isLiveSeed = live.isOn && (seed || !settings.values().seed);
  const chosen = isLiveSeed ? live.seed : seed;
  const { fields, files } = mask.isMarked && !run.isRunning ? await mask.request() : {};
  await run.start({ fields: { ...fields, ...(chosen && { seed: chosen }) }, files, panes: () => panesFor(files ? 1 : Number(byId("count").value)) });
}

/** The grid's cells for several pictures, the pane for one. */
function panesFor(count) {
  if (count > 1) return grid.begin(count);
  grid.close();
  return [pane];
}

grid.addEventListener("choose", ({ detail: entry }) => {
  keepSeed(entry);
  live.renewSeed(entry.seed);
  pane.show(entry.picture, entry);
  show(entry);
});
mask.addEventListener("paint", () => draw());

function stop() {
  live.stop();
  run.stop();
  updateStop();
}

on("composer", "submit", (event) => {
  event.preventDefault();
  draw();
});
on("stop", "click", stop);
on("prompt", "input", () => messages.prompt.clear());
on("prompt", "keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  event.preventDefault();
  draw();
});
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return; // Esc closes it
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) draw();
  else if (event.key === "Escape" && !byId("stop").disabled) stop();
  else return;
  event.preventDefault();
});

// ---- live mode

scribble.addEventListener("change", () => {
  if (scribble.isBlank) {
    live.renewSeed(); // the next drawing is another one
    keep();
  }
  drawingChanged();
});
byId("paper").addEventListener("pointerdown", () => live.hold(), { capture: true }); // also if the view uses the event
for (const name of ["pointerup", "pointercancel"]) byId("paper").addEventListener(name, () => live.release(), { capture: true });
on("prompt", "input", changeSoon);
settings.addEventListener("change", changeSoon);

function drawingChanged() {
  clearTimeout(typing);
  const isUnnamed = !scribble.isBlank && !byId("prompt").value.trim();
  liveSwitch.needs(isUnnamed ? "Say what your scribble shows, and it is painted while you draw." : "");
  byId("awaited").textContent = isUnnamed && live.isOn ? "Say what it shows, and it is painted here" : "Your picture appears here";
  if (!isRestoring) live.changed();
  updateStop();
}

/** After a pause in typing, or while a slider moves. */
function changeSoon() {
  if (isRestoring) return;
  live.hold();
  clearTimeout(typing);
  typing = setTimeout(drawingChanged, TYPING_MS);
}

// ---- the finished picture, and earlier ones

actions.addEventListener("again", () => draw({ seed: "-1" })); // a random one
actions.addEventListener("reuse", async ({ detail }) => {
  await toolbar.load(detail.picture, "outlines");
  byId("drawing").scrollIntoView({ block: "nearest", behavior: "smooth" });
});
gallery.addEventListener("remove", ({ detail: entries }) => {
  if (entries.some(({ id }) => id === shown?.id)) show(null);
});
gallery.addEventListener("choose", async ({ detail: entry }) => {
  if (run.isRunning) {
    messages.prompt.note("Your picture is still being drawn. Press Stop to see an earlier one.");
    return;
  }
  for (const message of Object.values(messages)) message.clear();
  await restore({ ...entry, prompt: entry.prompt || null });
  pane.show(entry.picture, entry);
  show(entry);
});

// ---- what a history entry, a link or a receipt restores

/** `prompt`: null leaves the present one. */
async function restore({ prompt, values, seed, drawing, scribble: picture }, how = "lines") {
  live.stop();
  keep();
  grid.close();
  isRestoring = true;
  settings.replace(values);
  byId("prompt").value = prompt ?? byId("prompt").value;
  suggestions.update();
  try {
    if (drawing) await scribble.replaceStored(drawing);
    else if (picture) await scribble.load(inkOf(await open(picture), scribble.size, how).ink);
  } finally {
    isRestoring = false;
  }
  if (seed) live.renewSeed(seed);
}

/** Content of a link or receipt. Drops a scribble that cannot be read. */
async function withReadableScribble(content) {
  const isReadable = await open(content.scribble).then(() => true, () => false);
  return isReadable ? content : { ...content, scribble: null };
}

/** Restore what came from outside, with a note and the way back. `trace` uses the picture as scribble instead. */
async function bring(content, text, trace) {
  const before = { prompt: byId("prompt").value, values: settings.values() };
  await restore(content, "auto");
  const undo = async () => {
    if (content.scribble) scribble.undo();
    await restore(before);
  };
  restored.show(text, { undo, ...(trace && { trace: async () => (await undo(), trace()) }) });
}

/** Restore what the receipt in a picture file says. Returns whether there is one. */
async function restoreFile(file) {
  restored.hide();
  const found = await receiptOf(file);
  if (!found) return false;
  const made = await withReadableScribble(found);
  const text = made.prompt === null
    ? "This picture does not say from which prompt it was made. Its settings and scribble are restored."
    : `This picture was made from “${made.prompt}”. Its prompt, settings and scribble are restored.`;
  await bring(made, text, () => toolbar.load(file));
  if (!made.scribble) await toolbar.load(file);
  else if (!run.isRunning) {
    const entry = await gallery.add({ ...made, prompt: made.prompt ?? "", picture: file });
    pane.show(file, entry);
    show(entry);
  }
  return true;
}

async function restoreLink() {
  const content = contentOf(location.hash);
  if (!content) return;
  window.history.replaceState(null, "", location.pathname + location.search); // so that a reload keeps what was changed since
  if (content.isNewer) restored.show("A newer version of this page made this link. Enter its prompt yourself.", {});
  else await bring(await withReadableScribble(content), `Prompt and settings come from the link${content.refused.length ? `, without ${content.refused.join(", ")}` : ""}.`);
}

on("lock", "click", () => {
  const isLocked = Boolean(settings.values().seed);
  settings.restore({ seed: isLocked ? "" : shown?.seed ?? String(Math.floor(Math.random() * 2 ** 32)) });
});

// ---- the server, and what its model takes

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
    isRestoring = true;
    settings.describe(server.description ?? {});
    isRestoring = false;
    liveSwitch.offer(settings.hasDrafts);
    suggestions.describe(server.description ?? {});
    byId("about").textContent = server.description?.about ?? "";
    if (server.wasDown) messages.result.noteBriefly("The server is back. Press Draw to try again.");
    else if (!wasGone) messages.result.clear();
    else messages.result.noteBriefly("The connection was lost. Press Draw to try again.");
    server.wasDown = false;
    live.wake(); // what was drawn meanwhile
  }
});
settings.addEventListener("change", () => {
  const [width, height] = settings.size;
  document.documentElement.style.setProperty("--ratio", String(width / height));
  scribble.setShape(width, height);
  byId("lock").ariaPressed = String(Boolean(settings.values().seed));
});
window.addEventListener("hashchange", restoreLink);

// ---- what is stored of this tab

const workspace = new Workspace(() => {
  const prompt = byId("prompt").value;
  if (!scribble.canUndo && !scribble.canRedo && !prompt) return null;
  return { drawing: scribble.stored(), prompt, values: settings.values(), shown: shown?.id, liveSeed: live.seed };
});

/** Show the stored work of this tab, then store what changes. */
async function goOn() {
  const work = await workspace.load();
  if (work) {
    isRestoring = true;
    settings.replace(work.values);
    byId("prompt").value ||= work.prompt;
    await scribble.restore(work.drawing);
    isRestoring = false;
    live.renewSeed(work.liveSeed);
    const entry = history.entries.find(({ id }) => id === work.shown);
    if (entry && !run.isRunning) {
      pane.show(entry.picture, entry);
      show(entry);
    }
  }
  for (const source of [scribble, settings]) source.addEventListener("change", () => workspace.save());
  on("prompt", "input", () => workspace.save());
  if (work) workspace.save();
}
workspace.addEventListener("change", () => {
  const warning = "This browser cannot store your drawing: you lose it when you reload or close the page.";
  byId("storage-note").textContent = workspace.isStored ? "" : warning;
});

// ---- start

if (!byId("docs").getAttribute("href")) byId("docs").hidden = true;
byId("examples").append(
  ...config.examples.map(({ prompt, file }) => {
    const [button, image] = [document.createElement("button"), document.createElement("img")];
    Object.assign(button, { type: "button", className: "example", title: prompt });
    Object.assign(image, { src: file, alt: "", width: 40, height: 40 });
    button.append(image, Object.assign(document.createElement("span"), { textContent: prompt }));
    button.addEventListener("click", async () => {
      byId("prompt").value = prompt;
      messages.prompt.clear();
      await toolbar.load(await (await fetch(file)).blob());
    });
    return button;
  }),
);
server.poll();
await gallery.load();
await goOn();
await restoreLink();
