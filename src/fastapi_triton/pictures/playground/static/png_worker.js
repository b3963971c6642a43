// SPDX-License-Identifier: Apache-2.0
// A worker that writes pictures as PNG files: see `png.js`.

onmessage = async ({ data: { picture, port } }) => {
  const sheet = new OffscreenCanvas(picture.width, picture.height);
  sheet.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  port.postMessage(await sheet.convertToBlob().catch((error) => error));
};
