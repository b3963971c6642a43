// SPDX-License-Identifier: Apache-2.0
// Saves a picture in another format and size, and copies it.

import { encode } from "./encoder.js";

const QUALITY = 0.92;
const EXTENSIONS = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg" };

/** The state of the address if it is a link to what this page showed: opening the page again must not go back to that. */
export const OWN_LINK = "own link";

/** The browser cannot write this, in words for the person. */
export class CannotExport extends Error {}

/** The picture as a file of this type, `scale` times as large. */
export async function converted(picture, type, scale) {
  const { width, height } = await createImageBitmap(picture);
  const resized = await createImageBitmap(picture, {
    resizeWidth: width * scale, resizeHeight: height * scale, resizeQuality: "high",
  });
  const sheet = new OffscreenCanvas(resized.width, resized.height);
  sheet.getContext("2d").drawImage(resized, 0, 0);
  const file = await encode(sheet, { type, quality: QUALITY });
  if (file.type !== type) throw new CannotExport("This browser cannot write WebP files. Choose PNG.");
  return file;
}

/** Copy the picture as a PNG, the only format that all browsers put on the clipboard. */
export async function copy(picture) {
  try {
    // The clipboard takes a promise, because some browsers allow copying only at once after the press.
    await navigator.clipboard.write([new ClipboardItem({ "image/png": converted(picture, "image/png", 1) })]);
  } catch {
    throw new CannotExport("This browser did not allow copying. Save the picture instead.");
  }
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    window.history.replaceState(OWN_LINK, "", text); // unlike a change of `location.hash`, it does not open the link
    throw new CannotExport("This browser did not allow copying. The address of this page is now the link: copy it there.");
  }
}

/** Save a file. Its name says what the picture shows. */
export function save(file, { prompt, seed }, suffix = "") {
  const name = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60).replace(/^-|-$/g, "");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file) });
  link.download = `${name || "picture"}-${seed}${suffix}.${EXTENSIONS[file.type]}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
