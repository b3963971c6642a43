// SPDX-License-Identifier: Apache-2.0
// Finds strokes: on a clean ground, and in a photograph of paper, whose light is uneven.
// These are the methods of the server's own intake (diffusion_engine/strokes.py), so both see the same strokes.

import { blurred, brightnessOf, channelOf, percentile } from "./planes.js";

/** The long side of a photograph for `strokesOnPaper`. */
export const PHOTO_SIDE = 512;
const NUM_CELLS = 24; // along the long side; the brightness of the paper is found for each
const PAPER_PART = 0.7; // of a cell's pixels are darker than its paper
const REACH = 3; // cells: larger shapes count as paper
const FAINTEST = 16; // fainter marks are grain
const STROKE_CONTRAST = 0.4; // of the strong strokes' contrast
const SOFTNESS = 4; // the slope of a stroke's edge

/** The ink of strokes that differ from the ground in any channel: also yellow on white. */
export function strokesOnClean(pixels, ground) {
  const strength = new Uint8ClampedArray(pixels.width * pixels.height);
  for (let channel = 0; channel < 3; channel++) {
    channelOf(pixels, channel).forEach((value, at) => {
      strength[at] = Math.max(strength[at], Math.abs(value - ground[channel]));
    });
  }
  return inkOf(strength, thresholdOf(strength));
}

/** The ink of strokes on photographed paper: pixels are compared with the paper nearby. */
export function strokesOnPaper(pixels) {
  const grey = blurred(brightnessOf(pixels), pixels, 1);
  const light = hasDarkStrokes(grey, pixels) ? grey : grey.map((value) => 255 - value);
  const paper = paperOf(light, pixels);
  // Relative to the paper's brightness, strokes in the shadow are as strong as those in the light.
  const strength = Uint8ClampedArray.from(light, (value, at) => Math.floor(((paper[at] - value) / Math.max(1, paper[at])) * 255));
  const threshold = thresholdOf(strength, 2);
  const share = blurred(strength.map((value) => (value > threshold ? 90 : 0)), pixels, 1); // 10 for each of 9 neighbours
  return inkOf(strength.map((value, at) => (share[at] > 25 ? value : 0)), threshold); // single pixels are grain
}

function inkOf(strength, threshold) {
  return strength.map((value) => (value > threshold ? 128 + SOFTNESS * (value - threshold) : 0));
}

/** Whether the pixels that differ most from a blurred copy are darker than it. */
function hasDarkStrokes(grey, grid) {
  const around = blurred(grey, grid, Math.round(Math.max(grid.width, grid.height) / NUM_CELLS));
  let balance = 0;
  grey.forEach((value, at) => {
    const outstanding = Math.max(0, Math.abs(value - around[at]) - FAINTEST);
    balance += Math.sign(value - around[at]) * outstanding ** 2;
  });
  return balance < 0;
}

/** The brightness of the bare paper at each pixel. Cells that a shape fills get the brightness of their neighbours. */
function paperOf(light, { width, height }) {
  const cell = Math.max(4, Math.floor(Math.max(width, height) / NUM_CELLS));
  const inside = { width: Math.ceil(width / cell), height: Math.ceil(height / cell) };
  const [cellX, cellY] = [width / inside.width, height / inside.height]; // pixels of a cell
  const grid = { width: inside.width + 2 * REACH, height: inside.height + 2 * REACH }; // the border is repeated around it
  let cells = new Float32Array(grid.width * grid.height);
  cells.forEach((_, index) => {
    const column = Math.min(inside.width - 1, Math.max(0, (index % grid.width) - REACH));
    const row = Math.min(inside.height - 1, Math.max(0, Math.floor(index / grid.width) - REACH));
    const values = new Uint8ClampedArray(cell * cell).map((_, at) => {
      const x = Math.floor((column + (at % cell) / cell) * cellX);
      return light[Math.floor((row + Math.floor(at / cell) / cell) * cellY) * width + x];
    });
    cells[index] = percentile(values, PAPER_PART);
  });
  cells = extreme(extreme(cells, grid, Math.max), grid, Math.min);
  cells = blurred(cells, grid, 1);
  return light.map((_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)];
    return between(cells, grid.width, (x + 0.5) / cellX - 0.5 + REACH, (y + 0.5) / cellY - 0.5 + REACH);
  });
}

/** The largest or smallest value around each cell. */
function extreme(cells, { width, height }, choose) {
  return cells.map((_, index) => {
    const [column, row] = [index % width, Math.floor(index / width)];
    let found = cells[index];
    for (let y = Math.max(0, row - REACH); y <= Math.min(height - 1, row + REACH); y++) {
      for (let x = Math.max(0, column - REACH); x <= Math.min(width - 1, column + REACH); x++) found = choose(found, cells[y * width + x]);
    }
    return found;
  });
}

/** The value at a point between four cells. */
function between(cells, width, x, y) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const [partX, partY, at] = [x - column, y - row, row * width + column];
  const upper = cells[at] + partX * (cells[at + 1] - cells[at]);
  const lower = cells[at + width] + partX * (cells[at + width + 1] - cells[at + width]);
  return upper + partY * (lower - upper);
}

/** The threshold between grain and strokes; 255 if there are no strokes. They must be `clearance` times as strong as grain. */
function thresholdOf(strength, clearance = 1) {
  const floor = Math.min(64, Math.max(FAINTEST, 3 * percentile(strength, 0.25)));
  const strong = percentile(strength, 0.95, floor);
  return strong >= clearance * floor ? Math.max(floor, Math.floor(strong * STROKE_CONTRAST)) : 255;
}
