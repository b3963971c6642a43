// SPDX-License-Identifier: Apache-2.0
// Converts a picture to ink: black on transparent, as if drawn. Drawings keep their lines; other pictures are traced.

import { outlines } from "./outlines.js";
import { PHOTO_SIDE, strokesOnClean, strokesOnPaper } from "./paper.js";
import { borderOf, channelOf, percentile } from "./planes.js";

const COLOURFUL = 36; // drawings have less: the mean difference between a pixel's strongest and weakest channel
const MOSTLY_INK = 0.45; // drawings have less: the share of ink
const TRANSPARENT_PART = 0.02; // pictures that have more transparent pixels are drawn on a transparent ground
const CLEAN_PART = 0.9; // of the border of line art differs from its median by at most CLEAN_DIFFERENCE
const CLEAN_DIFFERENCE = 12;

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
  const pixels = pixelsOf(bitmap, size);
  const found = how === "lines" ? sheetOf(blacks(pixels), pixels) : how === "auto" ? drawn(bitmap, pixels) : null;
  const ink = found ?? sheetOf(outlines(pixels), pixels);
  return { ink: resized(ink, pixels), isTraced: !found };
}

/** The pixels of a picture that is scaled to fit into `size`. */
function pixelsOf(bitmap, size) {
  const scale = Math.min(size[0] / bitmap.width, size[1] / bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  return resized(bitmap, { width, height }).getContext("2d").getImageData(0, 0, width, height);
}

function resized(picture, { width, height }) {
  const sheet = new OffscreenCanvas(width, height);
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return sheet;
}

/** A canvas with this ink, 0 to 255 for each pixel. */
function sheetOf(ink, { width, height }) {
  const sheet = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  for (let at = 0; at < ink.length; at++) pixels.data[4 * at + 3] = ink[at];
  sheet.getContext("2d").putImageData(pixels, 0, 0);
  return sheet;
}

/** The ink of a scribble that this page made: black on white. */
function blacks(pixels) {
  return channelOf(pixels, 0).map((value) => 255 - value);
}

/** The ink of a drawing, on a clean ground or on paper; null if the picture is something else. */
function drawn(bitmap, pixels) {
  const alpha = channelOf(pixels, 3);
  if (percentile(alpha, TRANSPARENT_PART) < 128) return sheetOf(alpha, pixels); // drawn on a transparent ground
  if (isColourful(pixels)) return null;
  const borders = [0, 1, 2].map((channel) => borderOf(channelOf(pixels, channel), pixels));
  const ground = borders.map((border) => percentile(border, 0.5));
  const isClean = borders.every((border, channel) => {
    const near = border.filter((value) => Math.abs(value - ground[channel]) <= CLEAN_DIFFERENCE);
    return near.length >= CLEAN_PART * border.length;
  });
  const sheet = isClean ? pixels : pixelsOf(bitmap, [PHOTO_SIDE, PHOTO_SIDE]);
  const ink = isClean ? strokesOnClean(sheet, ground) : strokesOnPaper(sheet);
  const share = ink.reduce((sum, value) => sum + value, 0) / 255 / ink.length;
  return share > MOSTLY_INK ? null : sheetOf(ink, sheet);
}

/** Whether colours differ from that of the paper, which need not be white: lamps are yellow. */
function isColourful({ data }) {
  const papers = [0, 1, 2].map((channel) => Math.max(64, percentile(channelOf({ data }, channel), 0.5)));
  const factors = papers.map((paper) => Math.max(...papers) / paper);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = [data[at] * factors[0], data[at + 1] * factors[1], data[at + 2] * factors[2]];
    sum += Math.max(red, green, blue) - Math.min(red, green, blue);
  }
  return (4 * sum) / data.length > COLOURFUL;
}
