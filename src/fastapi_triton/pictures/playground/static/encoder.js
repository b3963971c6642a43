// SPDX-License-Identifier: Apache-2.0
// Writes canvases as files, in a worker. On the page's own thread, Chromium would wait until the page is idle: for a second
// while a model on the same machine keeps the processor busy, and on phones for up to four.

const worker = new Worker(new URL("encoder_worker.js", import.meta.url));
const waiting = new Set(); // functions that end the wait for a file
let isLost = false;

worker.addEventListener("error", () => {
  isLost = true;
  for (const end of waiting) end(null);
});

/** An `OffscreenCanvas` as a file: a PNG, or what the `options` of `convertToBlob` say. */
export async function encode(canvas, options) {
  return (await inWorker(canvas, options)) ?? canvas.convertToBlob(options);
}

/** Null if the worker could not be loaded, or could not write the file. */
async function inWorker(canvas, options) {
  const picture = await createImageBitmap(canvas);
  if (isLost) return null;
  const { port1, port2 } = new MessageChannel();
  let end;
  const file = await new Promise((resolve) => {
    end = resolve;
    waiting.add(end);
    port1.onmessage = ({ data }) => resolve(data);
    worker.postMessage({ picture, options, port: port2 }, [picture, port2]);
  });
  waiting.delete(end);
  port1.close();
  return file;
}
