import assert from "node:assert/strict";
import { test } from "node:test";

import { WORKING_SIDE, workingSize } from "../image.js";

for (const [width, height, expected] of [
  [960, 540, { width: 960, height: 540 }],
  [4000, 3000, { width: 1600, height: 1200 }],
  [1, 9000, { width: 1, height: 1600 }],
]) {
  test(`image of ${width} x ${height} is worked on at ${expected.width} x ${expected.height}`, () => {
    assert.deepEqual(workingSize(width, height, WORKING_SIDE), expected);
  });
}
