import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const folder = mkdtempSync(join(tmpdir(), "worker-"));
after(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, "package.json"), '{"type": "module"}');
const copy = (from, to) => cpSync(fileURLToPath(new URL(from, import.meta.url)), join(folder, to));
copy("../worker.js", "worker.js");
for (const name of ["ort.wasm.min.mjs", "ort.min.mjs"]) copy("fake_runtime.js", `vendor/${name}`);
mock.method(performance, "now", () => self.clock);
let workers = 0;

/** What a new worker answers when it is opened and then segments an image; `open` are its sessions after it. */
async function run(asked, failures, slow) {
  const answers = [];
  globalThis.self = { failures, slow, open: [], clock: 0, postMessage: (answer) => answers.push(answer) };
  await import(`${pathToFileURL(join(folder, "worker.js"))}?${workers++}`);
  const vectors = {};
  await self.onmessage({ data: { id: 0, task: "open", buffer: null, vectors, backend: asked } });
  await self.onmessage({ data: { id: 1, task: "segment", pixels: { rgb: null, width: 1, height: 1 }, vectors } });
  return { opened: answers[0], backend: answers[1].result?.backend, note: answers[1].result?.note, open: self.open };
}

for (const [slow, taken] of [["wasm", "webgpu"], ["webgpu", "wasm"]]) {
  test(`${taken} is the only backend that stays open where it is faster`, async () => {
    const { backend, open, note } = await run("fastest", {}, slow);
    assert.deepEqual([backend, open], [taken, [taken]]);
    const [webgpu, wasm] = slow === "wasm" ? [1, 20] : [20, 1];
    assert.equal(note, `A trial image took ${webgpu} ms on WebGPU and ${wasm} ms on WebAssembly.`);
  });
}

for (const [asked, when] of [["fastest", "open"], ["fastest", 1], ["webgpu", "open"], ["webgpu", 1], ["fastest", 3]]) {
  test(`webgpu that fails (${asked}, ${when}) gives its memory back`, async () => {
    const { backend, open, note } = await run(asked, { webgpu: when }, "wasm");
    assert.deepEqual([backend, open], ["wasm", ["wasm"]]);
    assert.equal(note, "WebGPU failed (webgpu gave up), so WebAssembly is used.");
  });
}

for (const when of ["open", 1]) {
  test(`wasm that fails (${when}) is not laid to webgpu`, async () => {
    const { backend, open, note } = await run("fastest", { wasm: when });
    assert.deepEqual([backend, open], ["webgpu", ["webgpu"]]);
    assert.equal(note, "WebAssembly failed (wasm gave up), so WebGPU is used.");
  });
}

test("where both backends fail, the error of wasm is said", async () => {
  const { opened, open } = await run("fastest", { wasm: "open", webgpu: "open" });
  assert.deepEqual([opened.error, open], ["wasm gave up", []]);
});
