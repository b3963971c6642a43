// SPDX-License-Identifier: Apache-2.0
// Writes PNG files in a worker. On the page's own thread, Chromium would first wait until the page is idle, for up to a
// second. While a model on the same machine keeps the processor busy, that is what it takes.

const worker = new Worker(new URL("png_worker.js", import.meta.url));
const waiting = new Set(); // for each file that is being written, what ends that with an error
let isLost = false;

worker.addEventListener("error", () => {
  isLost = true;
  for (const fail of waiting) fail();
});

/** The canvas as a PNG file. */
export async function pngOf(canvas) {
  const picture = await createImageBitmap(canvas);
  const { port1, port2 } = new MessageChannel();
  let fail;
  try {
    return await new Promise((resolve, reject) => {
      fail = () => reject(new Error("it could not load all its files. Reload it."));
      if (isLost) fail();
      waiting.add(fail);
      port1.onmessage = ({ data }) => (data instanceof Blob ? resolve(data) : reject(data));
      worker.postMessage({ picture, port: port2 }, [picture, port2]);
    });
  } finally {
    waiting.delete(fail);
    port1.close();
  }
}
