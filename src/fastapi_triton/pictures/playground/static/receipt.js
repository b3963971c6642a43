// SPDX-License-Identifier: Apache-2.0
// Reads the receipt in a picture file: the record of how this server's engine made the picture.

const NEWEST = 1;
const MADE_BY = "fastapi-triton";
const COMMENT = "ASCII\0\0\0"; // the start of an EXIF user comment

/**
 * What made the picture, or null if the file has no receipt: `prompt` (null if it is left out), `seed` and `values` as
 * texts, as a form sends them, and the `scribble` as a file or null. A folder and a file that cannot be read have none.
 */
export async function receiptOf(file) {
  const text = textIn(new Uint8Array(await file.arrayBuffer().catch(() => new ArrayBuffer())));
  const content = text && parsed(text);
  if (content?.made_by !== MADE_BY || !(content.receipt <= NEWEST)) return null;
  const { made_by, receipt, prompt = null, scribble_png: png, loras = [], ...facts } = content;
  const used = Array.isArray(loras) ? loras.filter((each) => each?.name) : [];
  const values = { loras: JSON.stringify(used.map(({ name, scale }) => ({ name, scale }))) };
  for (const [name, value] of Object.entries(facts)) {
    if (typeof value === "string" || typeof value === "number") values[name] = String(value);
  }
  const seed = text.match(/"seed": ?(\d+)/)?.[1] ?? ""; // `parsed` rounds seeds over 2^53
  return { prompt: prompt === null ? null : String(prompt), seed, values: { ...values, seed }, scribble: png ? pictureOf(png) : null };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // damaged, or the comment of another program
  }
}

function pictureOf(base64) {
  try {
    return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: "image/png" });
  } catch {
    return null;
  }
}

/** The text that may be a receipt; "" if there is none. */
function textIn(bytes) {
  const view = new DataView(bytes.buffer);
  const latin = (from, to) => new TextDecoder("latin1").decode(bytes.subarray(from, to));
  if (latin(1, 4) === "PNG") return inPng(view, latin);
  if (latin(0, 4) === "RIFF" && latin(8, 12) === "WEBP") return inWebp(view, latin);
  return latin(0, 2) === "\xff\xd8" ? inJpeg(view, latin) : "";
}

function inPng(view, latin) {
  for (let at = 8; at + 12 <= view.byteLength; at += 12 + view.getUint32(at)) {
    const start = at + 8;
    const text = latin(start, start + view.getUint32(at));
    // An iTXt has the keyword, two flags, two empty texts, and the text itself.
    if (latin(at + 4, start) === "iTXt" && text.startsWith(`${MADE_BY}\0\0\0\0\0`)) return text.slice(MADE_BY.length + 5);
  }
  return "";
}

function inWebp(view, latin) {
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (latin(at, at + 4) === "EXIF") return userComment(latin(at + 8, at + 8 + size));
    at += 8 + size + (size % 2);
  }
  return "";
}

function inJpeg(view, latin) {
  for (let at = 2; at + 4 <= view.byteLength && view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
    const segment = latin(at + 4, at + 2 + view.getUint16(at + 2));
    if (view.getUint8(at + 1) === 0xe1 && segment.startsWith("Exif\0\0")) return userComment(segment);
    if (view.getUint8(at + 1) === 0xda) return ""; // the pixels begin
  }
  return "";
}

/** The receipt is ASCII, and the engine writes no other comment, so its tag needs no parsing. */
function userComment(exif) {
  const start = exif.indexOf(COMMENT);
  const text = start < 0 ? "" : exif.slice(start + COMMENT.length).match(/^[ -~]*/)[0];
  return text.slice(0, text.lastIndexOf("}") + 1);
}
