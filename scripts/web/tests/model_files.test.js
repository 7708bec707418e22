import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { readFurtherWords, readModelFiles } from "../model_files.js";
import { UserError } from "../user_error.js";
import { safetensorsFile } from "./safetensors_file.js";

const PAGE = new URL("..", import.meta.url).href;
const WORDS = { dtype: "F32", shape: [1, 2], data_offsets: [0, 8] };
const offline = () => Promise.reject(new TypeError("Failed to fetch"));
let files;

/** Where there is no file, the host answers with a page of its own and this status: some say that all is well. */
function serve(status) {
  const none = { status, headers: { "Content-Type": "text/html; charset=utf-8" } };
  globalThis.fetch = async ({ href }) => {
    const file = files[href.slice(PAGE.length)];
    return file === offline ? offline() : new Response(file ?? "<!doctype html>", file ? {} : none);
  };
}

beforeEach(() => {
  serve(404);
  files = {
    "model/model.onnx": "graph",
    "model/export.json": '{"model": "runs/mine/", "vocabulary": "open", "label_map": true, "outputs": {"scores": {}}}',
    "model/class_embeddings.safetensors": safetensorsFile({ words: WORDS }, Float32Array.of(1, 0)),
    "model/class_embeddings_names.json": '{"names": {"words": ["sky"]}}',
  };
});

test("model is read with its name and its classes", async () => {
  const { name, int8, own } = await readModelFiles();
  assert.deepEqual([name, int8, own.names], ["mine", false, ["sky"]]);
});

for (const status of [404, 200]) {
  test(`word bank beside the page need not be there, by status ${status}`, async () => {
    serve(status);
    assert.equal(await readFurtherWords(), null);
  });

  for (const file of ["model/model.onnx", "model/export.json", "model/class_embeddings_names.json"]) {
    test(`${file} that is missing is named, by status ${status}`, async () => {
      serve(status);
      delete files[file];
      const message = new RegExp(`^${file.replace("_names.json", ".safetensors")} is missing beside this page`);
      await assert.rejects(readModelFiles(), { constructor: UserError, message });
    });
  }
}

for (const [file, content, message] of [
  ["model/model.onnx", offline, /^model\/model.onnx could not be loaded \(Failed to fetch\)/],
  ["model/export.json", "null", /not exported with open vocabulary/],
  ["model/export.json", '{"vocabulary": "open", "label_map": true}', /label maps had no scores. Export it again/],
  ["model/export.json", "{", /^model\/export.json cannot be read as JSON/],
]) {
  test(`${file} that cannot be used gets a reason: ${message.source}`, async () => {
    files[file] = content;
    await assert.rejects(readModelFiles(), { constructor: UserError, message });
  });
}
