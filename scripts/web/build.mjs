/** Puts the page together for any static host: node build.mjs FOLDER (`lclipseg export` writes FOLDER/model). */

import { cpSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = [
  "index.html",
  "style.css",
  "camera.js",
  "class_list.js",
  "classes_panel.js",
  "file_input.js",
  "image.js",
  "label_map.js",
  "main.js",
  "model_files.js",
  "palette.js",
  "png.js",
  "result_panel.js",
  "safetensors.js",
  "segmenter.js",
  "user_error.js",
  "word_bank.js",
  "worker.js",
];
// Of ONNX Runtime's builds the two that the page chooses from, each with its WebAssembly.
const RUNTIME = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.min.mjs",
  "ort-wasm-simd-threaded.jsep.mjs",
  "ort-wasm-simd-threaded.jsep.wasm",
];

if (process.argv.length !== 3) {
  console.error("error: give the folder to write to: node build.mjs FOLDER");
  process.exit(2);
}
const out = resolve(process.argv[2]);
const dist = join(HERE, "node_modules", "onnxruntime-web", "dist");
if (!existsSync(dist)) {
  console.error("error: onnxruntime-web is not installed; run `npm ci` in scripts/web first");
  process.exit(2);
}
mkdirSync(join(out, "vendor"), { recursive: true });
for (const file of PAGE) cpSync(join(HERE, file), join(out, file));
for (const file of RUNTIME) cpSync(join(dist, file), join(out, "vendor", file));
// Its licence asks to go along with every copy, and its package has none inside.
cpSync(join(HERE, "onnxruntime_license.txt"), join(out, "vendor", "LICENSE"));
cpSync(join(HERE, "../../docs/demo/street.jpg"), join(out, "example.jpg"));
console.log(`The page is in ${out}.`);
