/** Reading .safetensors files: an 8-byte length, a JSON header of that length, then the numbers. */

import { UserError } from "./user_error.js";

const BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2 };
const MAX_HEADER = 100_000_000; // the limit that the format itself sets

/**
 * The tensors of floating-point numbers in a safetensors file.
 * @param {ArrayBuffer} buffer the whole file
 * @param {string} fileName for messages
 * @returns {Map<string, {shape: number[], values: Float32Array}>} by key; others are left out
 * @throws {UserError} not a safetensors file, damaged, or cut short
 */
export function readTensors(buffer, fileName) {
  const header = readHeader(buffer, fileName);
  const tensors = new Map();
  for (const [key, entry] of Object.entries(header.tensors)) {
    if (key === "__metadata__") continue;
    if (!isEntry(entry)) {
      throw new UserError(
        `${fileName} is damaged: its tensor "${key}" needs a dtype, a shape and two data_offsets, in whole numbers.`,
      );
    }
    if (!(entry.dtype in BYTES)) continue;
    const [begin, end] = entry.data_offsets;
    const count = entry.shape.reduce((product, side) => product * side, 1);
    if (end - begin !== count * BYTES[entry.dtype] || header.end + end > buffer.byteLength) {
      throw new UserError(`${fileName} is cut short or damaged: its tensor "${key}" is not all there.`);
    }
    // A copy: the numbers need not lie at a multiple of their size.
    const bytes = buffer.slice(header.end + begin, header.end + end);
    tensors.set(key, { shape: entry.shape, values: toFloat32(bytes, entry.dtype) });
  }
  return tensors;
}

function readHeader(buffer, fileName) {
  const broken = new UserError(`${fileName} is not a safetensors file.`);
  if (buffer.byteLength < 8) throw broken;
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > buffer.byteLength) throw broken;
  try {
    const tensors = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
    if (typeof tensors !== "object" || tensors === null) throw broken;
    return { tensors, end: 8 + length };
  } catch {
    throw broken;
  }
}

function isEntry(entry) {
  const areSizes = (list) => Array.isArray(list) && list.every((size) => Number.isInteger(size) && size >= 0);
  if (typeof entry?.dtype !== "string" || !areSizes(entry.shape) || !areSizes(entry.data_offsets)) return false;
  return entry.data_offsets.length === 2;
}

function toFloat32(bytes, dtype) {
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "F64") return Float32Array.from(new Float64Array(bytes));
  const halves = new Uint16Array(bytes);
  if (dtype === "F16") return Float32Array.from(halves, halfToNumber);
  const widened = Uint32Array.from(halves, (bits) => bits << 16); // bfloat16 is the upper half of a float32
  return new Float32Array(widened.buffer);
}

function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}
