// SPDX-License-Identifier: Apache-2.0
// Arithmetic on planes: one number from 0 to 255 for each pixel, row by row.

/** The red (0), green (1), blue (2) or alpha (3) of each pixel. */
export function channelOf({ data }, channel) {
  const plane = new Uint8ClampedArray(data.length / 4);
  for (let at = 0; at < plane.length; at++) plane[at] = data[4 * at + channel];
  return plane;
}

/** The brightness of each pixel. */
export function brightnessOf({ data }) {
  const plane = new Uint8ClampedArray(data.length / 4);
  for (let at = 0; at < plane.length; at++) plane[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
  return plane;
}

/** A box blur in both directions. */
export function blurred(plane, { width, height }, radius) {
  return blurredLines(blurredLines(plane, width, height, 1, width, radius), height, width, width, 1, radius);
}

/** Along `count` lines of `length` pixels, with `step` from one pixel to the next and `stride` from one line to the next. */
function blurredLines(plane, length, count, step, stride, radius) {
  const out = new Float32Array(plane.length);
  for (let line = 0; line < count; line++) {
    const at = (index) => line * stride + Math.min(length - 1, Math.max(0, index)) * step;
    let sum = 0;
    for (let index = -radius; index <= radius; index++) sum += plane[at(index)];
    for (let index = 0; index < length; index++) {
      out[at(index)] = sum / (2 * radius + 1);
      sum += plane[at(index + radius + 1)] - plane[at(index - radius)];
    }
  }
  return out;
}

/** The values at the border of a plane. */
export function borderOf(plane, { width, height }) {
  const values = [];
  for (let x = 0; x < width; x++) values.push(plane[x], plane[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) values.push(plane[y * width], plane[y * width + width - 1]);
  return values;
}

/** The smallest whole number that this part of the values does not exceed; values up to `above` do not count. */
export function percentile(values, part, above = -1) {
  const counts = new Uint32Array(256);
  let left = 0;
  for (let at = 0; at < values.length; at++) {
    if (values[at] <= above) continue;
    counts[Math.round(values[at])]++;
    left++;
  }
  left *= part;
  let found = 0;
  while (found < 255 && (left -= counts[found]) > 0) found++;
  return found;
}
