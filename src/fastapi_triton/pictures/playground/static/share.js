// SPDX-License-Identifier: Apache-2.0
// Links that carry prompt, settings and a small scribble in their fragment, which browsers send to no server.

const VERSION = "1";
const MAX_PROMPT = 10_000;
const MAX_SCRIBBLE = 1500; // bytes: some chat programs cut long links
const SCRIBBLE_SIDE = 192; // pixels
const NUMBER = /^-?\d{1,19}(\.\d{1,6})?$/;
const NAME = /^[\w.+-]{1,100}$/;
const FIELDS = {
  preset: NAME, scheduler: NAME, seed: /^\d{1,19}$/, width: /^[1-9]\d{0,4}$/, height: /^[1-9]\d{0,4}$/,
  num_inference_steps: NUMBER, guidance_scale: NUMBER, conditioning_scale: NUMBER, negative_prompt: /^[^]{1,2000}$/,
};
const LORA = /^([\w.+-]{1,100}):(-?\d(\.\d{1,2})?)$/;

/** A link to the page at `address` with this prompt, these values, and the scribble (a picture file) if it is small. */
export async function linkTo(address, { prompt, values, scribble }) {
  const fragment = new URLSearchParams({ v: VERSION, prompt });
  for (const name of Object.keys(FIELDS)) if (values[name]) fragment.set(name, values[name]);
  const loras = JSON.parse(values.loras || "[]").map(({ name, scale }) => `${name}:${scale}`);
  if (loras.length) fragment.set("loras", loras.join());
  const drawn = scribble && (await textOf(scribble));
  if (drawn) fragment.set("scribble", drawn);
  return `${new URL(address).href.split("#")[0]}#${fragment}`;
}

/**
 * What a link's fragment carries, or null if it is not of such a link: `prompt`, `values`, `scribble` (a file or null),
 * `isNewer` if a later version of the page made it, and `refused`, the names that were left out because of their values.
 */
export function contentOf(fragment) {
  const found = new URLSearchParams(fragment.replace(/^#/, ""));
  if (!found.has("v") || !found.has("prompt")) return null;
  if (found.get("v") !== VERSION) return { isNewer: true };
  const content = { prompt: found.get("prompt").slice(0, MAX_PROMPT), values: {}, scribble: null, refused: [] };
  for (const [name, value] of found) {
    if (name === "v" || name === "prompt") continue;
    if (name === "scribble") content.scribble = pictureOf(value);
    else if (Object.hasOwn(FIELDS, name) && FIELDS[name].test(value)) content.values[name] = value;
    else if (name === "loras" && value.split(",").every((each) => LORA.test(each))) {
      const loras = value.split(",").map((each) => each.match(LORA));
      content.values.loras = JSON.stringify(loras.map(([, lora, scale]) => ({ name: lora, scale: Number(scale) })));
    } else content.refused.push(name.slice(0, 40));
  }
  return content;
}

/** The scribble as text; "" if it is not small. */
async function textOf(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SCRIBBLE_SIDE / Math.max(bitmap.width, bitmap.height));
  const sheet = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  const context = sheet.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, sheet.width, sheet.height);
  const small = await sheet.convertToBlob({ type: "image/webp", quality: 0.3 });
  if (small.size > MAX_SCRIBBLE) return "";
  const bytes = new Uint8Array(await small.arrayBuffer());
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** The file in a link's text. Only a decoder of pictures ever reads it. */
function pictureOf(text) {
  if (text.length > 2 * MAX_SCRIBBLE || text.length % 4 === 1 || !/^[\w-]+$/.test(text)) return null;
  const bytes = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return new Blob([Uint8Array.from(bytes, (character) => character.charCodeAt(0))]);
}
