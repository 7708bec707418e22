import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Camera } from "../camera.js";
import { UserError } from "../user_error.js";

const refuse = (name) => Promise.reject(Object.assign(new Error("no"), { name }));
const cameras = ["a", "b", "c"].map((deviceId) => ({ kind: "videoinput", deviceId }));
let video, track, mediaDevices, camera;

beforeEach(() => {
  video = { srcObject: null, play: async () => {} };
  track = { running: true, stop: () => (track.running = false), addEventListener: (_, ended) => (track.end = ended) };
  track.getSettings = () => track.settings;
  const stream = { getTracks: () => [track], getVideoTracks: () => [track] };
  mediaDevices = { getUserMedia: async () => stream, enumerateDevices: async () => cameras };
  globalThis.createImageBitmap = async () => ({ width: 4, height: 3 });
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

for (const [settings, another, mirrored] of [
  [{ facingMode: "user", deviceId: "b" }, { facingMode: "environment" }, true],
  [{ facingMode: "environment", deviceId: "a" }, { facingMode: "user" }, false],
  [{ deviceId: "c" }, { deviceId: "a" }, false],
]) {
  test(`after the camera ${JSON.stringify(settings)} comes ${JSON.stringify(another)}`, async () => {
    track.settings = settings;
    await camera.start();
    assert.deepEqual([await camera.another(), (await camera.shoot()).mirrored], [another, mirrored]);
  });
}

test("only camera has no other", async () => {
  mediaDevices.enumerateDevices = async () => [{ kind: "audioinput", deviceId: "m" }, cameras[0]];
  track.settings = { facingMode: "user", deviceId: "a" };
  await camera.start();
  assert.equal(await camera.another(), null);
});

test("camera that is unplugged gets a reason", async () => {
  await camera.start();
  track.end();
  await assert.rejects(camera.shoot(), { constructor: UserError, message: /The camera was taken away/ });
});
