// SPDX-License-Identifier: Apache-2.0
// A worker that writes pictures as files: see `encoder.js`.

onmessage = async ({ data: { picture, options, port } }) => port.postMessage(await encoded(picture, options).catch(() => null));

async function encoded(picture, options) {
  const sheet = new OffscreenCanvas(picture.width, picture.height);
  sheet.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  return sheet.convertToBlob(options);
}
