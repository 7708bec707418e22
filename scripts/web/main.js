/** The page: images come in, the network runs over them, the result is shown. */

import { Camera } from "./camera.js";
import { ClassList } from "./class_list.js";
import { ClassesPanel } from "./classes_panel.js";
import { onFilesChosen } from "./file_input.js";
import { toClassIds } from "./label_map.js";
import { fetchNeeded, readFurtherWords, readModelFiles } from "./model_files.js";
import { InputImage } from "./image.js";
import { ResultPanel } from "./result_panel.js";
import { Segmenter } from "./segmenter.js";
import { UserError } from "./user_error.js";

const BACKENDS = ["wasm", "webgpu", "fastest"];
const byId = (id) => document.getElementById(id);

class Page {
  #segmenter = new Segmenter();
  #result = new ResultPanel(attempt);
  #camera = null; // while it runs or is asked for
  #wanted = undefined; // which camera, once the visitor has changed it
  #another = null; // which one there is besides
  #image = null;
  #decoding = 0; // milliseconds
  #run = null; // of the network, while it runs
  #outdated = false;

  /** Fetch what belongs to the model, then take images. */
  async start() {
    if (typeof WebAssembly !== "object") {
      throw new UserError("This browser has no WebAssembly, which the network needs; use another browser.");
    }
    const start = performance.now();
    say("Loading the network …");
    const asked = new URLSearchParams(location.search).get("backend");
    const { network, name, int8, own } = await readModelFiles();
    // Quantised graphs have the channels last, which ONNX Runtime enlarges wrongly on WebGPU, without an error.
    const backend = int8 ? "wasm" : BACKENDS.find((known) => known === asked);
    this.classes = new ClassList(own);
    this.#result.showBackend(await this.#segmenter.open(network, this.classes.vectors, backend));
    byId("model").textContent = name ? `Model: ${name}; it runs in this browser` : "The network runs in this browser";
    this.panel = new ClassesPanel(this.classes, () => this.#segment(), attempt);
    this.#takeImages();
    say(`Ready: the network took ${((performance.now() - start) / 1000).toFixed(1)} s to load.`);
    const bank = await readFurtherWords();
    if (bank) this.panel.useBank(bank);
  }

  #takeImages() {
    onFilesChosen(byId("file"), (files) => attempt(() => this.#takeFiles(files)));
    byId("example").addEventListener("click", () => attempt(() => this.#takeExample()));
    byId("camera").addEventListener("click", () => attempt(() => this.#toggleCamera()));
    byId("other-camera").addEventListener("click", () => attempt(() => this.#changeCamera()));
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden || !this.#camera) return;
      this.#stopCamera();
      say("The camera was stopped, as this page was hidden.");
    });
    for (const control of document.querySelectorAll("main [disabled]")) control.disabled = false;
    document.addEventListener("paste", ({ clipboardData }) => {
      if (clipboardData.files.length) attempt(() => this.#takeFiles([...clipboardData.files]));
    });
    for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
      document.addEventListener(event, (dropped) => {
        dropped.preventDefault(); // else the browser leaves the page to show the file
        document.body.classList.toggle("dropping", over);
        if (event === "drop" && dropped.dataTransfer.files.length) {
          attempt(() => this.#takeFiles([...dropped.dataTransfer.files]));
        }
      });
    }
  }

  /** An image, or the files of a word bank. */
  async #takeFiles(files) {
    if (files.some(({ name }) => /\.(safetensors|json)$/.test(name))) await this.panel.takeBankFiles(files);
    else if (files.length) await this.#takeFile(files[0], files[0].name);
  }

  async #takeExample() {
    await this.#takeFile(await fetchNeeded("example.jpg"), "example.jpg");
  }

  async #takeFile(file, name) {
    this.#stopCamera();
    const start = performance.now();
    const image = await InputImage.decode(file, name);
    this.#use(image, performance.now() - start);
    await this.#segment();
  }

  #use(image, decoding) {
    this.#image?.close();
    this.#image = image;
    this.#decoding = decoding;
  }

  /** The network over the image; once more if image or classes change meanwhile. */
  #segment() {
    this.#outdated = true;
    this.#run ??= this.#segmentWhileOutdated().finally(() => (this.#run = null));
    return this.#run;
  }

  async #segmentWhileOutdated() {
    document.body.classList.toggle("busy", !this.#camera); // a video would flicker
    try {
      while (this.#outdated && this.#image) {
        this.#outdated = false;
        await this.#segmentOnce(this.#image, this.classes);
      }
    } finally {
      document.body.classList.remove("busy");
    }
  }

  async #segmentOnce(image, { chosen, names, vectors }) {
    const start = performance.now();
    const pixels = image.prepare();
    const decode = this.#decoding + performance.now() - start;
    this.#decoding = 0; // another run over the same image decodes nothing
    const network = await this.#segmenter.segment(pixels, vectors);
    const found = toClassIds(network.indices, chosen);
    const { name, live, mirrored } = image;
    const { canvas } = pixels;
    const draw = this.#result.show({ name, canvas, found, scores: network.scores, names, chosen, live, mirrored });
    const stages = [
      { stage: "decode", milliseconds: decode },
      { stage: "network", milliseconds: network.milliseconds },
      { stage: "draw", milliseconds: draw },
    ];
    this.#result.showLatency(stages, sizeRemark(image, pixels));
    this.#result.showBackend(network);
  }

  async #toggleCamera() {
    if (this.#camera) this.#stopCamera();
    else await this.#runCamera();
  }

  async #changeCamera() {
    this.#wanted = this.#another;
    this.#stopCamera(); // first: a phone opens one at a time
    await this.#runCamera();
  }

  async #runCamera() {
    const camera = (this.#camera = new Camera(this.#wanted));
    byId("camera").textContent = "Stop the camera";
    try {
      await camera.start();
      if (camera.stopped) return;
      this.#another = await camera.another();
      byId("other-camera").hidden = !this.#another || camera.stopped;
      await this.#film(camera);
    } finally {
      if (this.#camera === camera) this.#stopCamera(); // else it is stopped, and another one may run
    }
  }

  /** One frame after the other, as fast as the network is; once a second, how fast that is. */
  async #film(camera) {
    let since = performance.now();
    let frames = 0;
    while (!camera.stopped) {
      const start = performance.now();
      const frame = await camera.shoot();
      if (camera.stopped) {
        frame.close();
        return;
      }
      this.#use(frame, performance.now() - start);
      await this.#segment();
      frames++;
      const now = performance.now();
      if (now - since < 1000 || camera.stopped) continue;
      const rate = (1000 * frames) / (now - since);
      say(`${rate.toFixed(1)} frames a second, latency ${(now - start).toFixed(0)} ms.`);
      [since, frames] = [now, 0];
    }
  }

  #stopCamera() {
    if (!this.#camera) return;
    this.#camera.stop();
    this.#camera = null;
    byId("camera").textContent = "Camera";
    byId("other-camera").hidden = true;
    say("The camera is off.");
  }
}

function sizeRemark(image, { width, height }) {
  if (width === image.width && height === image.height) return "";
  return `Worked on at ${width} x ${height} of ${image.width} x ${image.height} pixels`;
}

function say(text) {
  byId("status").textContent = text;
}

/** Run an action; its error, in plain words, stays on the page until the next action. */
async function attempt(action) {
  byId("notice").replaceChildren();
  try {
    await action();
  } catch (error) {
    const expected = error instanceof UserError;
    showNotice(expected ? error.message : `This should not have happened: ${error.message}`);
    if (!expected) throw error;
  }
}

function showNotice(message) {
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.appendChild(document.createElement("p")).textContent = message;
  const close = notice.appendChild(document.createElement("button"));
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => notice.remove());
  byId("notice").replaceChildren(notice);
}

attempt(() => new Page().start());
