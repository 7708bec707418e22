import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { ClassList } from "../class_list.js";
import { UserError } from "../user_error.js";
import { WordBank } from "../word_bank.js";

/** Of a bank's words each has the vector (1, 0) or, every other one, (0, 1). */
const bankOf = (names) => {
  const values = Float32Array.from(names.flatMap((_, row) => (row % 2 ? [0, 1] : [1, 0])));
  return new WordBank(names, { shape: [names.length, 2], values }, "words.safetensors");
};
const numbered = (count) => bankOf(Array.from({ length: count }, (_, id) => `class ${id}`));
const bank = bankOf(["lane", "kerb"]);
let classes;

beforeEach(() => (classes = new ClassList(bankOf(["sky", "road"]))));

test("class that is switched off leaves the others their ids", () => {
  classes.add("LANE", bank);
  classes.toggle(0);
  assert.deepEqual([classes.chosen, classes.names], [[1, 2], ["sky", "road", "lane"]]);
});

test("network is given the vectors of the classes that are on", () => {
  classes.add("lane", bank);
  classes.toggle(0);
  assert.deepEqual(classes.vectors, { values: Float32Array.of(0, 1, 1, 0), count: 2, width: 2 });
});

test("of a long list the classes of the example are on, and the others are known", () => {
  const long = [...numbered(30).names, "Sky", "car"];
  classes = new ClassList(bankOf(long));
  assert.deepEqual([classes.names, classes.known(bank)], [["Sky", "car"], [...long, "lane", "kerb"]]);
  assert.equal(classes.add("CLASS 7", null), "class 7");
  classes.reset();
  assert.deepEqual(classes.names, ["Sky", "car"]);
});

test("of a long list without them the first ones are on", () => {
  assert.deepEqual(new ClassList(numbered(30)).names, numbered(20).names);
});

test("own class keeps its vector though the bank has another", () => {
  classes = new ClassList(bankOf([...numbered(30).names, "car", "lane"]));
  classes.add("lane", bank);
  assert.deepEqual([...classes.vectors.values], [1, 0, 0, 1]);
});

for (const [action, message] of [
  [() => classes.add(" SKY ", bank), /"sky" is one of the classes already/],
  [() => classes.add("kerbs", bank), /no vector for "kerbs": it is neither in .+ nor .+ \(did you mean "kerb"\?\)/],
  [() => classes.add("roads", null), /no word bank is loaded \(did you mean "road"\?\)/],
  [() => classes.add(" ", bank), /Write a word first/],
  [() => [0, 1].forEach((id) => classes.toggle(id)), /At least one class must stay/],
  [() => numbered(256).names.forEach((name) => classes.add(name, numbered(256))), /no more than 255 classes/],
]) {
  test(`class that cannot be gets a reason: ${message.source}`, () => {
    assert.throws(action, { constructor: UserError, message });
  });
}
