import assert from "node:assert/strict";
import { test } from "node:test";

import { readTensors } from "../safetensors.js";
import { UserError } from "../user_error.js";
import { safetensorsFile } from "./safetensors_file.js";

for (const [dtype, data] of [
  ["F64", Float64Array.of(1, -0.5, 2 ** -15)],
  ["F32", Float32Array.of(1, -0.5, 2 ** -15)],
  ["F16", Uint16Array.of(0x3c00, 0xb800, 0x0200)],
  ["BF16", Uint16Array.of(0x3f80, 0xbf00, 0x3800)],
]) {
  test(`numbers of type ${dtype} are read`, () => {
    const file = safetensorsFile({ words: { dtype, shape: [3], data_offsets: [0, data.byteLength] } }, data);
    assert.deepEqual([...readTensors(file, "words.safetensors").get("words").values], [1, -0.5, 2 ** -15]);
  });
}

const ENTRY = { dtype: "F32", shape: [1, 2], data_offsets: [0, 8] };
const fileWith = (entry) => safetensorsFile({ words: entry }, Float32Array.of(1, 0));
for (const [what, file, message] of [
  ["file of another format", new TextEncoder().encode("no word bank").buffer, "is not a safetensors file"],
  ["file that is cut short", fileWith(ENTRY).slice(0, -4), 'is cut short or damaged: its tensor "words"'],
  ...[null, 7, { ...ENTRY, shape: undefined }, { ...ENTRY, data_offsets: undefined }, { ...ENTRY, shape: "12" },
    { ...ENTRY, data_offsets: [8] }, { ...ENTRY, shape: [-1, -2] },
  ].map((entry) => [`tensor ${JSON.stringify(entry)}`, fileWith(entry), 'is damaged: its tensor "words"']),
]) {
  test(`${what} is named`, () => {
    const refused = { constructor: UserError, message: new RegExp(`words.safetensors ${message}`) };
    assert.throws(() => readTensors(file, "words.safetensors"), refused);
  });
}
