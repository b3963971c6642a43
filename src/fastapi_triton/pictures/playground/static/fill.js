// SPDX-License-Identifier: Apache-2.0
// The bucket: finds the area around a point that ink encloses, and describes it by its contours.

const OPAQUE = 128;
const GAP = 6; // pixels on both sides of a gap that still counts as closed
const OVERLAP = 2; // pixels that the area extends below the ink around it

/** The contours of the area around a pixel, each as x, y, x, y …; null on ink. */
export function areaAround({ data, width, height }, x, y) {
  const open = Uint8Array.from({ length: width * height }, (_, at) => data[4 * at + 3] < OPAQUE);
  const grid = { width, height };
  const seed = y * width + x;
  if (!open[seed]) return null;
  let area = flooded(open, grid, seed);
  if (touchesBorder(area, grid)) {
    const roomy = inverted(spread(inverted(open), grid, GAP));
    const core = roomy[seed] ? flooded(roomy, grid, seed) : area;
    if (!touchesBorder(core, grid)) area = spread(core, grid, GAP); // it leaked only through a gap
  }
  return contoursOf(spread(area, grid, OVERLAP), grid);
}

function inverted(mask) {
  return mask.map((value) => 1 - value);
}

/** The connected part of a mask around a pixel, row by row. */
function flooded(mask, { width, height }, seed) {
  const area = new Uint8Array(mask.length);
  const waiting = [seed];
  while (waiting.length) {
    const at = waiting.pop();
    if (area[at]) continue;
    const row = at - (at % width);
    let [left, right] = [at, at];
    while (left > row && mask[left - 1]) left--;
    while (right < row + width - 1 && mask[right + 1]) right++;
    area.fill(1, left, right + 1);
    for (const step of [-width, width]) {
      if (row + step < 0 || row + step >= width * height) continue;
      for (let each = left + step; each <= right + step; each++) {
        if (mask[each] && !area[each] && (each === left + step || !mask[each - 1])) waiting.push(each);
      }
    }
  }
  return area;
}

function touchesBorder(mask, { width, height }) {
  for (let x = 0; x < width; x++) if (mask[x] || mask[(height - 1) * width + x]) return true;
  for (let at = 0; at < mask.length; at += width) if (mask[at] || mask[at + width - 1]) return true;
  return false;
}

/** The mask, larger by a number of pixels on each side. */
function spread(mask, { width, height }, radius) {
  return spreadLines(spreadLines(mask, width, height, 1, width, radius), height, width, width, 1, radius);
}

/** Spread along `count` lines of `length` pixels. */
function spreadLines(mask, length, count, step, stride, radius) {
  const out = new Uint8Array(mask.length);
  for (let line = 0; line < count; line++) {
    const first = line * stride;
    let filled = 0; // up to here
    for (let index = 0; index < length; index++) {
      if (!mask[first + index * step]) continue;
      const end = Math.min(length, index + radius + 1);
      for (let each = Math.max(filled, index - radius); each < end; each++) out[first + each * step] = 1;
      filled = end;
    }
  }
  return out;
}

/** The borders of a mask along the edges of its pixels; the mask is at their right. Only corners are listed. */
function contoursOf(mask, { width, height }) {
  const holds = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  const isTraced = new Uint8Array(mask.length); // by the upper edge of a pixel
  const contours = [];
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || isTraced[start] || (start >= width && mask[start - width])) continue;
    const contour = [];
    let [x, y] = [start % width, Math.floor(start / width)];
    let [dx, dy] = [1, 0];
    do {
      if (dx === 1) isTraced[y * width + x] = 1;
      [x, y] = [x + dx, y + dy];
      // The pixels ahead, at the left and right of the way: (x, y) is their common corner.
      const [cx, cy] = [x + (dx - 1) / 2, y + (dy - 1) / 2];
      const turn = holds(cx + dy / 2, cy - dx / 2) ? -1 : holds(cx - dy / 2, cy + dx / 2) ? 0 : 1;
      if (!turn) continue;
      contour.push(x, y);
      [dx, dy] = turn > 0 ? [-dy, dx] : [dy, -dx];
    } while (!(dx === 1 && isTraced[y * width + x]));
    contours.push(contour);
  }
  return contours;
}
