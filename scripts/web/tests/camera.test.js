import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Camera } from "../camera.js";
import { UserError } from "../user_error.js";

const refuse = (name) => Promise.reject(Object.assign(new Error("no"), { name }));
let video, track, mediaDevices, camera;

beforeEach(() => {
  video = { srcObject: null, play: async () => {} };
  track = { running: true, stop: () => (track.running = false) };
  mediaDevices = { getUserMedia: async () => ({ getTracks: () => [track] }) };
  globalThis.document = { createElement: () => video };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true });
  camera = new Camera();
});

test("camera that is stopped before it is allowed does not run", async () => {
  const started = camera.start();
  camera.stop();
  await started;
  assert.deepEqual([track.running, video.srcObject], [false, null]);
});

test("camera that is stopped before it plays is no error", async () => {
  video.play = () => {
    camera.stop();
    return refuse("AbortError");
  };
  await camera.start();
  assert.deepEqual([track.running, camera.stopped], [false, true]);
});

for (const [what, failure, message] of [
  ["is refused", () => (mediaDevices.getUserMedia = () => refuse("NotAllowedError")), /The camera was refused/],
  ["does not play", () => (video.play = () => refuse("NotSupportedError")), /The camera cannot be used: no/],
]) {
  test(`camera that ${what} gets a reason`, async () => {
    failure();
    await assert.rejects(camera.start(), { constructor: UserError, message });
  });
}
