// SPDX-License-Identifier: Apache-2.0
// Paints actions of a drawing: strokes, filled areas and loaded pictures. Ink is black on transparent.

/** Numbers of a stroke for each of its points: x, y and width. */
export const PER_POINT = 3;

/** Paint an action. One unit of the context is one unit of the drawing, and its origin is the drawing's middle. */
export function paint(context, action) {
  const { kind, tool } = action;
  context.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
  context.lineCap = context.lineJoin = "round";
  if (kind === "stroke") paintStroke(context, action.points);
  else if (kind === "fill") context.fill(pathOf(action.contours), "evenodd");
  else if (kind === "picture") {
    const { ink, width, height } = action;
    context.drawImage(ink, -width / 2, -height / 2, width, height);
  }
}

/** Paint only the end of a stroke that grows, with a line to its newest point, so that ink follows the pen at once. */
export function paintEnd(context, { tool, points }) {
  const tail = points.slice(-3 * PER_POINT);
  context.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
  context.lineCap = context.lineJoin = "round";
  const [x, y] = tail;
  const isWhole = tail.length === points.length;
  context.beginPath();
  if (isWhole) context.moveTo(x, y);
  else context.moveTo((x + tail[3]) / 2, (y + tail[4]) / 2);
  for (let at = isWhole ? 0 : PER_POINT; at < tail.length; at += PER_POINT) curve(context, tail, at);
  context.lineWidth = points.at(-1);
  context.stroke();
}

/** Curves between the midpoints of neighbouring points. Segments of the same width are one path. */
function paintStroke(context, points) {
  let width = points[2];
  if (points.length === PER_POINT) {
    context.beginPath();
    context.arc(points[0], points[1], width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.beginPath();
  context.moveTo(points[0], points[1]);
  for (let at = 0; at < points.length; at += PER_POINT) {
    const next = Math.min(at + PER_POINT, points.length - PER_POINT);
    const mean = (points[at + 2] + points[next + 2]) / 2;
    if (mean !== width) {
      context.lineWidth = width;
      context.stroke();
      context.beginPath();
      const before = Math.max(0, at - PER_POINT);
      context.moveTo((points[before] + points[at]) / 2, (points[before + 1] + points[at + 1]) / 2);
      width = mean;
    }
    curve(context, points, at);
  }
  context.lineWidth = width;
  context.stroke();
}

/** From the midpoint before a point to the midpoint after it; the last point is reached. */
function curve(context, points, at) {
  const next = Math.min(at + PER_POINT, points.length - PER_POINT);
  const [x, y] = [points[at], points[at + 1]];
  context.quadraticCurveTo(x, y, (x + points[next]) / 2, (y + points[next + 1]) / 2);
  if (next === at) context.lineTo(x, y);
}

function pathOf(contours) {
  const path = new Path2D();
  for (const contour of contours) {
    path.moveTo(contour[0], contour[1]);
    for (let at = 2; at < contour.length; at += 2) path.lineTo(contour[at], contour[at + 1]);
    path.closePath();
  }
  return path;
}
