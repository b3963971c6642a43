// SPDX-License-Identifier: Apache-2.0
// Writes PNG files in a worker. On the page's own thread, Chromium would first wait until the page is idle, for up to a
// second. While a model on the same machine keeps the processor busy, that is what it takes.

const worker = new Worker(new URL("png_worker.js", import.meta.url));
const failed = new Promise((_, reject) => {
  worker.addEventListener("error", () => reject(new Error("it could not load all its files. Reload it.")));
});
failed.catch(() => {}); // each use of the worker reports it

/** The canvas as a PNG file. */
export async function pngOf(canvas) {
  const picture = await createImageBitmap(canvas);
  const { port1, port2 } = new MessageChannel();
  const written = new Promise((resolve, reject) => {
    port1.onmessage = ({ data }) => {
      port1.close();
      if (data instanceof Blob) resolve(data);
      else reject(data);
    };
  });
  worker.postMessage({ picture, port: port2 }, [picture, port2]);
  return Promise.race([written, failed]);
}
