/**
 * What the page and the Python package must do alike. tests/serving/test_web.py writes what Python does into the folder
 * LCLIPSEG_WEB_EXPECTED, runs these tests, and reads the label map that they write there.
 */

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { aboveLeast, classShares } from "../label_map.js";
import { classPalette } from "../palette.js";
import { encodeIndexedPng } from "../png.js";
import { UserError } from "../user_error.js";
import { foldName, readWordBank } from "../word_bank.js";

const folder = process.env.LCLIPSEG_WEB_EXPECTED;
const alike = { skip: !folder && "it is run by `pytest tests/serving/test_web.py`" };
const read = (name) => readFileSync(join(folder, name));
const expected = folder && JSON.parse(read("expected.json"));

test("palettes are Python's", alike, () => {
  for (const palette of expected.palettes) assert.deepEqual(classPalette(palette.length), palette);
});

test("names are one where they are one in Python", alike, () => {
  for (const [name, folded] of Object.entries(expected.folded)) assert.equal(foldName(name), folded);
});

test("shares are Python's", alike, () => {
  assert.deepEqual(classShares(Uint8Array.from(expected.ids.flat())), expected.shares);
});

test("least score leaves out what it does in Python", alike, () => {
  const scores = Float32Array.from(expected.scores.flat());
  const above = aboveLeast(Uint8Array.from(expected.ids.flat()), scores, expected.least);
  assert.deepEqual([...above], expected.above.flat());
  assert.deepEqual(classShares(above), expected.shares_above);
});

test("word bank is Python's", alike, () => {
  const bank = readWordBank(Uint8Array.from(read("words.safetensors")).buffer, read("words_names.json"), "words");
  assert.deepEqual(bank.names, Object.keys(expected.vectors));
  for (const [name, vector] of Object.entries(expected.vectors)) {
    bank.find(name.toUpperCase()).forEach((value, axis) => assert.ok(Math.abs(value - vector[axis]) < 1e-6));
  }
  assert.deepEqual([...bank.center], expected.center);
});

test("label map is written for Python", alike, async () => {
  const { ids, palettes } = expected;
  const blob = await encodeIndexedPng(Uint8Array.from(ids.flat()), ids[0].length, ids.length, palettes.at(-1));
  writeFileSync(join(folder, "label_map.png"), new Uint8Array(await blob.arrayBuffer()));
});

test("browser that cannot compress a label map gets a message", async () => {
  delete globalThis.CompressionStream; // of this test alone: it is the last one of its process
  const refused = { constructor: UserError, message: /no CompressionStream/ };
  await assert.rejects(encodeIndexedPng(Uint8Array.of(0), 1, 1, [[0, 0, 0]]), refused);
});
