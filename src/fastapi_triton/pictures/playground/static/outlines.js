// SPDX-License-Identifier: Apache-2.0
// Traces the outlines of a picture: where its colours change most.

import { blurred, channelOf, percentile } from "./planes.js";

/** The outlines of a picture, 0 to 255 for each pixel. */
export function outlines(pixels) {
  const { width, height } = pixels;
  const radius = Math.max(1, Math.round(Math.max(width, height) / 200));
  const steep = new Float32Array(width * height);
  for (let channel = 0; channel < 3; channel++) {
    const plane = blurred(blurred(channelOf(pixels, channel), pixels, radius), pixels, radius);
    for (let y = 1; y < height - 1; y++) {
      for (let x = 1; x < width - 1; x++) {
        const at = y * width + x;
        const slope = Math.hypot(plane[at + 1] - plane[at - 1], plane[at + width] - plane[at - width]);
        if (slope > steep[at]) steep[at] = slope;
      }
    }
  }
  const fine = steep.map((slope) => Math.min(255, 4 * slope)); // steps of 1/4
  const [low, high] = [0.86, 0.95].map((part) => percentile(fine, part) / 4);
  const floor = Math.max(low, 2); // a uniform picture has no outlines
  return Uint8ClampedArray.from(steep, (slope) => (255 * (slope - floor)) / Math.max(1, high - floor));
}
