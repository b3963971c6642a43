// SPDX-License-Identifier: Apache-2.0
// Connects the parts of the page, and starts it.

import { DrawingRun } from "./drawing_run.js";
import { setUpEasel } from "./easel.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { inkOf, open } from "./ink.js";
import { KeyForm } from "./key.js";
import { Live } from "./live.js";
import { LiveSwitch } from "./live_switch.js";
import { Message } from "./messages.js";
import { PicturePane } from "./picture.js";
import { ResultActions } from "./result_actions.js";
import { Scribble } from "./scribble.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { Toolbar } from "./toolbar.js";
import { Workspace } from "./workspace.js";

const byId = (id) => document.getElementById(id);
const on = (id, name, listener) => byId(id).addEventListener(name, listener);

const TYPING_MS = 400;

const config = JSON.parse(byId("config").textContent);
const server = new Server();
const scribble = new Scribble(byId("scribble"));
const settings = new Settings({ fold: byId("fold"), host: byId("settings"), summary: byId("in-short"), accepted: config.fields });
const pane = new PicturePane({
  image: byId("picture"), frame: byId("frame"), caption: byId("caption"), progress: byId("progress"), spoken: byId("spoken"),
  notes: byId("notes"),
});
const messages = { scribble: Message.of("scribble"), prompt: Message.of("prompt"), result: new Message(byId("result-error")) };
const keyForm = new KeyForm(byId("unlock"), byId("key"), Message.of("key"), () => server.poll());
const toolbar = new Toolbar({ scribble, message: messages.scribble });
setUpEasel(scribble, toolbar);
const history = new History();
const gallery = new Gallery(history);
const actions = new ResultActions();
const run = new DrawingRun({
  config, server, scribble, settings, pane, messages, prompt: byId("prompt"), askForKey: (reason) => keyForm.open(reason),
});
const live = new Live({ draw: (kind, signal) => run.live(kind, signal, live.seed), canDraw: () => run.isPossible });
const liveSwitch = new LiveSwitch({ live, button: byId("live"), note: byId("live-note"), left: byId("live-left") });
let isRestoring = false; // an earlier picture: nothing new is to be drawn
let typing; // a timer
let shown = null; // the history entry whose picture is in the pane

function show(entry) {
  shown = entry;
  actions.show(entry);
  gallery.mark(entry);
  workspace.save();
}

// ---- one picture

run.addEventListener("preview", () => show(null));
run.addEventListener("completed", async ({ detail }) => {
  const { seed } = detail.values;
  isRestoring = true;
  if (seed) settings.restore({ ...settings.values(), seed }); // a fixed seed stays fixed, to that of the new picture
  isRestoring = false;
  show(await gallery.add(detail));
});
run.addEventListener("change", () => {
  byId("result").ariaBusy = String(run.isRunning);
  actions.busy(run.isRunning);
  updateStop();
  if (!run.isRunning) live.wake();
  else if (byId("frame").getBoundingClientRect().top > window.innerHeight * 0.7) {
    byId("result").scrollIntoView({ block: "nearest", behavior: "smooth" }); // on a phone the pane is below the window
  }
});
live.addEventListener("change", updateStop);
run.addEventListener("wait", () => {
  byId("draw").ariaDisabled = String(run.isWaiting); // not `disabled`, which would lose the focus
});

function updateStop() {
  const [isActive, hadFocus] = [run.isRunning || live.isActive, document.activeElement === byId("stop")];
  byId("stop").disabled = !isActive;
  if (hadFocus && !isActive) byId("draw").focus();
}

/** Draw the finished picture now. In live mode it is that of the drafts, unless `seed` is another one. */
function draw({ seed } = {}) {
  if (!run.isRunning) live.stop();
  if (live.isOn && seed) live.renewSeed();
  const isLiveSeed = live.isOn && (seed || !settings.values().seed);
  return run.start({ seed: isLiveSeed ? live.seed : seed });
}

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
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) draw();
  else if (event.key === "Escape" && !byId("stop").disabled) stop();
  else return;
  event.preventDefault();
});

// ---- live mode

scribble.addEventListener("change", () => {
  if (scribble.isBlank) live.renewSeed(); // the next drawing is another one
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
  live.stop();
  isRestoring = true;
  settings.replace(entry.values);
  byId("prompt").value = entry.prompt;
  try {
    if (entry.drawing) await scribble.replaceStored(entry.drawing);
    else await scribble.load(inkOf(await open(entry.scribble), scribble.size, "lines").ink); // of an earlier version of the page
  } finally {
    isRestoring = false;
  }
  live.renewSeed(entry.seed);
  pane.show(entry.picture, entry);
  show(entry);
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
    byId("about").textContent = server.description?.about ?? "";
    if (server.wasDown) messages.result.noteBriefly("The server is back. Press Draw to try again.");
    else if (!wasGone) messages.result.clear();
    else messages.result.noteBriefly("The connection was lost. Press Draw to try again.");
    server.wasDown = false;
  }
});
settings.addEventListener("change", () => {
  const [width, height] = settings.size;
  document.documentElement.style.setProperty("--ratio", String(width / height));
  scribble.setShape(width, height);
});

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
