// SPDX-License-Identifier: Apache-2.0
// Connects the parts of the page, and starts it.

import { Compare } from "./compare.js";
import { DrawingRun } from "./drawing_run.js";
import { setUpEasel } from "./easel.js";
import { showExamples } from "./examples.js";
import { keepFocus } from "./focus.js";
import { Gallery } from "./gallery.js";
import { Grid } from "./grid.js";
import { History } from "./history.js";
import { InitImage } from "./init_image.js";
import { KeyForm } from "./key.js";
import { Live } from "./live.js";
import { LiveSwitch } from "./live_switch.js";
import { Mask } from "./mask.js";
import { Message } from "./messages.js";
import { PicturePane } from "./picture.js";
import { ERASER_END } from "./pointers.js";
import { Restorer } from "./restore.js";
import { RestoredNote } from "./restored_note.js";
import { ResultActions } from "./result_actions.js";
import { Scribble } from "./scribble.js";
import { Server } from "./server.js";
import { ServerStatus } from "./server_status.js";
import { Settings } from "./settings.js";
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
const toolbar = new Toolbar({ scribble, message: messages.scribble, restore: (file) => restorer.restoreFile(file) });
setUpEasel(scribble, toolbar);
const history = new History();
const gallery = new Gallery(history);
const actions = new ResultActions(messages.result);
const compare = new Compare({ host: byId("compare"), image: byId("compare-scribble"), slider: byId("compare-line"), button: byId("compare-open") });
const initImage = new InitImage({
  host: byId("init-image"), text: byId("init-image-text"), drop: byId("init-image-drop"), accepted: config.fields,
});
const restorer = new Restorer({
  prompt: byId("prompt"), settings, scribble, initImage, trace: (file) => toolbar.load(file),
  note: new RestoredNote(byId("restored"), byId("restored-text"), {
    undo: byId("restored-undo"), trace: byId("restored-trace"), close: byId("restored-close"),
  }),
});
const grid = new Grid({ host: byId("grid"), back: byId("grid-back"), caption: byId("caption"), spoken: byId("spoken") });
const mask = new Mask({
  host: byId("mask"), canvas: byId("mask-canvas"), pen: byId("mask-pen"), image: byId("picture"),
  tools: Object.fromEntries(["bar", "open", "width", "undo", "clear", "paint", "leave"].map((name) => [name, byId(`mask-${name}`)])),
});
new Shortcuts(byId("shortcuts"), byId("help"));
new ServerStatus(server, messages.result, { host: byId("status"), model: byId("model"), about: byId("about") });
byId("mask-open").hidden = !config.fields.includes("mask");
const run = new DrawingRun({
  config, server, scribble, settings, initImage, pane, messages, prompt: byId("prompt"), askForKey: (reason) => keyForm.open(reason),
});
const live = new Live({ draw: (kind, signal) => run.live(kind, signal, live.seed), canDraw: () => run.isPossible && !mask.isOpen });
const liveSwitch = new LiveSwitch({ live, button: byId("live"), note: byId("live-note"), left: byId("live-left") });
let typing; // a timer
let shown = null; // the history entry whose picture is in the pane
let knownSeed; // the seed setting when the newest pictures were begun, or what `keepSeed` has made of it

function show(entry) {
  shown = entry;
  actions.show(entry);
  compare.show(entry?.scribble ?? null);
  mask.show(entry);
  gallery.mark(entry);
  workspace.save();
}

/** Show an earlier picture in the pane. */
function showPicture(entry) {
  pane.show(entry.picture, entry);
  show(entry);
}

// ---- one picture

run.addEventListener("preview", ({ detail }) => detail.pane === pane && show(null));
run.addEventListener("completed", ({ detail: { fields, pane: shownIn, sheet, isLive } }) => {
  const entry = isLive ? gallery.addLive(fields, sheet) : gallery.add(fields);
  if (shownIn !== pane) {
    shownIn.entry = entry;
    return;
  }
  if (!isLive) keepSeed(entry);
  show(entry);
});
for (const id of ["download", "copy", "share", "save-as", "mask-open"]) on(id, "click", () => gallery.keep()); // the person uses it

/** A fixed seed stays fixed, to that of the picture, unless the person has changed it since. */
function keepSeed({ values: { seed } }) {
  if (!seed || settings.values().seed !== knownSeed) return;
  knownSeed = seed;
  restorer.quietly(() => settings.restore({ seed }));
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
  keepFocus(() => (byId("stop").disabled = !run.isRunning && !live.isActive));
}

/**
 * Draw the finished picture now. In live mode it is that of the drafts, unless `isAnother` asks for another seed. The page
 * chooses the seed, also without live mode, so that it can be kept while the picture is drawn.
 */
async function draw({ isAnother = false } = {}) {
  if (!run.isRunning) {
    endTyping();
    live.stop();
  }
  gallery.keep();
  const { fields: ofRegion, files } = mask.isMarked && !run.isRunning ? await mask.request() : {};
  const panes = () => {
    if (files) restorer.quietly(() => initImage.replace({})); // the marked picture replaces it
    return panesFor(files ? 1 : Number(byId("count").value));
  };
  const fields = () => {
    const isFixed = settings.values().seed && !isAnother;
    if (!isFixed && (isAnother || !live.isOn)) live.renewSeed();
    return { ...ofRegion, ...(!isFixed && { seed: live.seed }) };
  };
  await run.start({ fields, files, panes });
}

/** The grid's cells for several pictures, the pane for one. */
function panesFor(count) {
  knownSeed = settings.values().seed;
  grid.close();
  if (count === 1) return [pane];
  show(null);
  return grid.begin(count);
}

grid.addEventListener("choose", ({ detail: entry }) => {
  keepSeed(entry);
  live.renewSeed(entry.seed);
  showPicture(entry);
});
on("grid-back", "click", () => show(null)); // none is chosen
for (const [id, other] of [["mask-open", compare], ["compare-open", mask]]) on(id, "click", () => other.close()); // it would cover the other
mask.addEventListener("paint", () => draw());
mask.addEventListener("close", () => live.wake()); // a new draft would have closed it

function stop() {
  endTyping();
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
    gallery.keep();
  }
  drawingChanged();
});
const pressed = new Set(); // ids of the pointers on the paper
byId("paper").addEventListener("pointerdown", ({ pointerId, button }) => {
  if (button !== 0 && button !== ERASER_END) return; // a menu may open, which hides the end of the press
  pressed.add(pointerId);
  live.hold();
}, { capture: true }); // also if the view uses the event
for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, ({ pointerId }) => {
  if (!pressed.delete(pointerId) || pressed.size) return;
  live.release();
  updateStop(); // a finish may be due now
}, { capture: true });
on("prompt", "input", changeSoon);
for (const source of [settings, initImage]) source.addEventListener("change", changeSoon);

function drawingChanged() {
  endTyping();
  if (!restorer.isRestoring) live.changed();
  updateStop();
}

/** Live mode draws nothing for what was typed before. */
function endTyping() {
  clearTimeout(typing);
  const isUnnamed = !scribble.isBlank && !byId("prompt").value.trim();
  liveSwitch.needs(isUnnamed ? "Say what your scribble shows, and it is painted while you draw." : "");
  byId("awaited").textContent = isUnnamed && live.isOn ? "Say what it shows, and it is painted here" : "Your picture appears here";
}

/** After a pause in typing, or while a slider moves. */
function changeSoon() {
  if (restorer.isRestoring) return;
  live.hold();
  clearTimeout(typing);
  typing = setTimeout(drawingChanged, TYPING_MS);
}

// ---- the finished picture, and earlier ones

actions.addEventListener("again", () => draw({ isAnother: true }));
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
  await restorer.restoreEntry(entry);
  grid.close();
  showPicture(entry);
});

restorer.addEventListener("begin", () => {
  live.stop();
  gallery.keep();
});
restorer.addEventListener("end", ({ detail: { seed } }) => {
  suggestions.update();
  if (seed) live.renewSeed(seed);
});
restorer.addEventListener("picture", ({ detail: fields }) => {
  if (run.isRunning) return;
  grid.close();
  showPicture(gallery.add(fields));
});
on("init-image-drop", "click", () => byId("draw").focus());
window.addEventListener("hashchange", () => restorer.restoreLink());

on("lock", "click", () => {
  const isLocked = Boolean(settings.values().seed);
  settings.restore({ seed: isLocked ? "" : shown?.seed ?? live.seed }); // what is drawn now has that of live mode
});

// ---- the server, and what its model takes

server.addEventListener("change", () => {
  if (server.state === "locked") keyForm.open(server.detail);
  if (server.state !== "ready") return;
  if (keyForm.close()) byId("prompt").focus();
  const description = server.description ?? {};
  restorer.quietly(() => settings.describe(description));
  suggestions.describe(description);
  liveSwitch.offer(settings.hasDrafts);
  live.wake(); // what was drawn meanwhile
});
settings.addEventListener("change", () => {
  const [width, height] = settings.size;
  document.documentElement.style.setProperty("--ratio", String(width / height));
  scribble.setShape(width, height);
  byId("lock").ariaPressed = String(Boolean(settings.values().seed));
});

// ---- what is stored of this tab

const workspace = new Workspace(() => {
  const prompt = byId("prompt").value;
  if (!scribble.canUndo && !scribble.canRedo && !prompt && !settings.isChosen && !initImage.files.init_image) return null;
  return { drawing: scribble.stored(), prompt, values: settings.values(), files: initImage.files, shown: shown?.id, liveSeed: live.seed };
});

/** Show the stored work of this tab, then store what changes. Returns whether there was some. */
async function goOn() {
  const work = await workspace.load();
  if (work) {
    await restorer.restoreWork(work);
    const entry = history.entries.find(({ id }) => id === work.shown);
    if (entry && !run.isRunning) showPicture(entry);
  }
  for (const source of [scribble, settings, initImage]) source.addEventListener("change", () => workspace.save());
  on("prompt", "input", () => workspace.save());
  await workspace.start(); // also what changed meanwhile
  return work !== null;
}
workspace.addEventListener("change", () => {
  const warning = "This browser cannot store your drawing: you lose it when you reload or close the page.";
  const [note, text] = [byId("storage-note"), workspace.isStored ? "" : warning];
  if (note.textContent !== text) note.textContent = text;
  document.querySelector("main").dataset.work = workspace.isPending ? "changed" : "stored";
});

// ---- start

if (!byId("docs").getAttribute("href")) byId("docs").hidden = true;
showExamples(byId("examples"), config.examples, async (prompt, file) => {
  messages.prompt.clear();
  await restorer.showExample(prompt, await (await fetch(file)).blob());
});
server.poll();
await gallery.load();
const hasWork = await goOn();
await restorer.restoreLink({ hasWork });
document.querySelector("main").dataset.state = "restored"; // from now on, a reload keeps every change
