/** The files of the page as they are published, and what they may load. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("..", import.meta.url));
const read = (name) => readFileSync(join(WEB, name), "utf8");
const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]);
const page = readdirSync(WEB).filter((name) => /\.(html|css|js)$/.test(name));
const runtime = all(read("build.mjs"), /"(ort[\w.-]+)"/g);

// A checkout in which empty files stand for the example and the runtime.
const root = mkdtempSync(join(tmpdir(), "page-"));
after(() => rmSync(root, { recursive: true }));
const [out, web, demo] = ["out", "scripts/web", "docs/demo"].map((folder) => join(root, folder));
const dist = join(web, "node_modules/onnxruntime-web/dist");
cpSync(WEB, web, { recursive: true, filter: (path) => !path.includes("node_modules") });
for (const folder of [demo, dist]) mkdirSync(folder, { recursive: true });
for (const file of [join(demo, "street.jpg"), ...runtime.map((name) => join(dist, name))]) writeFileSync(file, "");
execFileSync(process.execPath, [join(web, "build.mjs"), out]);

test("build takes the page, the runtime with its licence and the example, but no tests", () => {
  assert.deepEqual(readdirSync(out).sort(), [...page, "example.jpg", "vendor"].sort());
  assert.deepEqual(readdirSync(join(out, "vendor")).sort(), [...runtime, "LICENSE"].sort());
  assert.match(readFileSync(join(out, "vendor", "LICENSE"), "utf8"), /^MIT License\n\nCopyright \(c\) Microsoft/);
});

test("everything that the page refers to is built", () => {
  const names = page.flatMap((name) => all(read(name), /(?:src="|href="|"\.\/)([\w./-]+\.(?:css|m?js))"/g));
  for (const name of ["style.css", "main.js", "worker.js", "vendor/ort.min.mjs"]) assert.ok(names.includes(name));
  assert.deepEqual(names.filter((name) => !existsSync(join(out, name))), []);
});

test("every package is pinned to one version with its checksum", () => {
  const { "": _, ...locked } = JSON.parse(read("package-lock.json")).packages;
  for (const [name, version] of Object.entries(JSON.parse(read("package.json")).devDependencies)) {
    assert.match(version, /^\d+\.\d+\.\d+$/);
    assert.equal(locked[`node_modules/${name}`].version, version);
  }
  for (const { integrity } of Object.values(locked)) assert.match(integrity, /^sha512-/);
});

test("no file of the page names another server", () => {
  assert.deepEqual(page.flatMap((name) => all(read(name), /((?:https?|wss?):?\/\/[\w.]+)/g)), []);
});

test("no file of the page reads text as markup", () => {
  const readers = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTMLUnsafe|\beval\(|new Function/;
  assert.deepEqual(page.filter((name) => readers.test(read(name))), []);
});

test("policy lets scripts come from the host of the page alone", () => {
  const [policy] = all(read("index.html"), /Content-Security-Policy" content="([^"]+)"/g);
  const rules = ["default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "connect-src 'self'"];
  for (const rule of [...rules, "worker-src 'self'", "style-src 'self'"]) assert.ok(policy.split("; ").includes(rule));
});
