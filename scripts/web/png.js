/** PNG files whose pixel values are class ids, with the palette inside: what a canvas cannot write. */

import { UserError } from "./user_error.js";

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/**
 * A label map as an indexed image, as `to_indexed_image` makes it in Python.
 * @param {Uint8Array} ids class ids, row by row
 * @param {number} width
 * @param {number} height
 * @param {number[][]} palette RGB by class id
 * @returns {Promise<Blob>} image/png
 * @throws {UserError} a browser that cannot compress
 */
export async function encodeIndexedPng(ids, width, height, palette) {
  if (typeof CompressionStream === "undefined") {
    throw new UserError("This browser cannot write label maps: it has no CompressionStream; use a newer one.");
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits a pixel, palette
  const rows = new Uint8Array(height * (width + 1)); // each begins with the number of its filter, 0: none
  for (let row = 0; row < height; row++) rows.set(ids.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const zipped = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(zipped).arrayBuffer());
  const chunks = [
    chunk("IHDR", header),
    chunk("PLTE", Uint8Array.from(palette.flat())),
    chunk("IDAT", data),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob([SIGNATURE, ...chunks], { type: "image/png" });
}

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(data.length + 8, crc(bytes.subarray(4, data.length + 8)));
  return bytes;
}

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return ~value >>> 0;
}
