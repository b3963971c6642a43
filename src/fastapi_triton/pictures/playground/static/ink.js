// SPDX-License-Identifier: Apache-2.0
// Converts a picture to ink: black on transparent, as if drawn. Line art keeps its lines; other pictures are traced.

const COLOURFUL = 36; // line art has less: the mean difference between a pixel's strongest and weakest channel
const MOSTLY_INK = 0.45; // line art has less: the share of ink

/** The browser cannot read the file as a picture. */
export class NotAPicture extends Error {}

/** The picture in a file, rotated upright. */
export async function open(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    const name = file.name ? `“${file.name}”` : "This file";
    throw new NotAPicture(`${name} is not a picture that this browser can read. Use a PNG, JPEG, WebP or GIF file.`);
  }
}

/**
 * Ink that fits into `size`, and whether the picture's outlines were traced. `how`: "lines" for a scribble of this page,
 * "outlines" to trace, "auto" to decide by the picture.
 */
export function inkOf(bitmap, size, how = "auto") {
  const scale = Math.min(size[0] / bitmap.width, size[1] / bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const sheet = new OffscreenCanvas(width, height);
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const found = how === "lines" ? blacks(pixels) : how === "auto" ? lines(pixels) : null;
  const ink = found ?? outlines(pixels);
  pixels.data.fill(0);
  for (let at = 0; at < ink.length; at++) pixels.data[4 * at + 3] = ink[at];
  context.putImageData(pixels, 0, 0);
  return { ink: sheet, isTraced: !found };
}

/** The ink of a scribble that this page made: black on white. */
function blacks({ data, width, height }) {
  return Uint8ClampedArray.from({ length: width * height }, (_, at) => 255 - data[4 * at]);
}

/** The ink of line art, 0 to 255 for each pixel; null if the picture is not line art. */
function lines({ data, width, height }) {
  const bright = new Uint8ClampedArray(width * height);
  let colour = 0;
  let transparent = 0;
  for (let at = 0; at < bright.length; at++) {
    const [red, green, blue, alpha] = [data[4 * at], data[4 * at + 1], data[4 * at + 2], data[4 * at + 3]];
    bright[at] = 0.299 * red + 0.587 * green + 0.114 * blue;
    colour += ((Math.max(red, green, blue) - Math.min(red, green, blue)) * alpha) / 255;
    transparent += alpha < 128;
  }
  if (transparent > 0.02 * bright.length) return bright.map((_, at) => data[4 * at + 3]); // drawn on a transparent ground
  const ground = median(border(bright, width, height));
  const isDark = ground < 128;
  const contrast = Math.max(1, isDark ? 255 - ground : ground);
  const ink = bright.map((value) => (300 * (isDark ? value - ground : ground - value)) / contrast - 24);
  const share = ink.reduce((sum, value) => sum + value, 0) / 255 / ink.length;
  return colour / bright.length > COLOURFUL || share > MOSTLY_INK ? null : ink;
}

/** The outlines of a picture, 0 to 255 for each pixel: where the colours change most. */
function outlines({ data, width, height }) {
  const radius = Math.max(1, Math.round(Math.max(width, height) / 200));
  const steep = new Float32Array(width * height);
  for (let channel = 0; channel < 3; channel++) {
    let plane = Float32Array.from(steep, (_, at) => data[4 * at + channel]);
    for (let pass = 0; pass < 2; pass++) plane = blurred(blurred(plane, width, height, 1, radius), height, width, width, radius);
    for (let y = 1; y < height - 1; y++) {
      for (let x = 1; x < width - 1; x++) {
        const at = y * width + x;
        const slope = Math.hypot(plane[at + 1] - plane[at - 1], plane[at + width] - plane[at - width]);
        steep[at] = Math.max(steep[at], slope);
      }
    }
  }
  const sorted = Float32Array.from(steep).sort();
  const [low, high] = [0.86, 0.95].map((part) => sorted[Math.floor(part * (sorted.length - 1))]);
  const floor = Math.max(low, 2); // a uniform picture has no outlines
  return Uint8ClampedArray.from(steep, (slope) => (255 * (slope - floor)) / Math.max(1, high - floor));
}

/** A box blur in one direction: `count` rows of `length` pixels, with `step` from one pixel to the next. */
function blurred(plane, length, count, step, radius) {
  const out = new Float32Array(plane.length);
  const stride = step === 1 ? length : 1;
  for (let row = 0; row < count; row++) {
    const at = (index) => row * stride + Math.min(length - 1, Math.max(0, index)) * step;
    let sum = 0;
    for (let index = -radius; index <= radius; index++) sum += plane[at(index)];
    for (let index = 0; index < length; index++) {
      out[at(index)] = sum / (2 * radius + 1);
      sum += plane[at(index + radius + 1)] - plane[at(index - radius)];
    }
  }
  return out;
}

function* edges(width, height) {
  for (let x = 0; x < width; x++) yield* [x, (height - 1) * width + x];
  for (let y = 0; y < height; y++) yield* [y * width, y * width + width - 1];
}

function border(plane, width, height) {
  return Uint8ClampedArray.from(edges(width, height), (at) => plane[at]);
}

function median(values) {
  return values.sort()[values.length >> 1];
}
