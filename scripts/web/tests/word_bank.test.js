import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../user_error.js";
import { WordBank } from "../word_bank.js";

const bankOf = (rows, center) => {
  const matrix = { shape: [rows.length, rows[0].length], values: Float32Array.from(rows.flat()) };
  return new WordBank(rows.map((_, row) => `word ${row}`), matrix, "words.safetensors", center);
};
const own = bankOf([[1, 0]], Float32Array.of(1, 0));

test("vectors of this model's text tower are taken", () => {
  bankOf([[1, 0.2], [1, -0.2]]).checkSameTower(own);
});

for (const [what, check, message] of [
  ["not finite", () => bankOf([[1, 0], [NaN, 0]]), /words.safetensors: vector 1 is zero or not finite/],
  ["of another width", () => bankOf([[1, 0, 0]]).checkSameTower(own), /are 3 wide, but this model takes 2/],
  ["of another text tower", () => bankOf([[1, 0], [0, 1]]).checkSameTower(own), /do not come from this model/],
  // more of them than a function takes arguments
  ["200,000 and foreign", () => bankOf(Array(200_000).fill([-1, 1])).checkSameTower(own), /goes down to -0.71/],
]) {
  test(`vectors that are ${what} are refused`, () => {
    assert.throws(check, { constructor: UserError, message });
  });
}
