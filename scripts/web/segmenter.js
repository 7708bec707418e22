/** The network as the page sees it: it lives in worker.js. */

import { UserError } from "./user_error.js";

export class Segmenter {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #nextId = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new UserError(explain(error)));
    };
    this.#worker.onerror = (event) => {
      const message = event.message ? `The network stopped: ${event.message}` : "worker.js or vendor/ is missing.";
      for (const { reject } of this.#waiting.values()) reject(new UserError(message));
      this.#waiting.clear();
    };
  }

  /**
   * Make the network ready.
   * @param {ArrayBuffer} buffer model.onnx
   * @param {{values: Float32Array, count: number, width: number}} vectors of some classes, to try it with
   * @param {"webgpu" | "wasm" | "fastest"} [backend] where to run; by default the fastest of both where there is a
   *   graphics processor, else WebAssembly
   * @returns {Promise<{backend: string, threads: number, isolated: boolean, note: string}>}
   * @throws {UserError} no network that runs here
   */
  open(buffer, vectors, backend) {
    return this.#ask({ task: "open", buffer, vectors, backend });
  }

  /**
   * @param {{rgb: Uint8Array, width: number, height: number}} pixels
   * @param {{values: Float32Array, count: number, width: number}} vectors of the classes, at most 255
   * @returns {Promise<{indices: Uint8Array, scores: Float32Array, milliseconds: number, backend: string,
   *   threads: number, isolated: boolean, note: string}>} for every pixel the index of its class and the logit of that
   *   class, and the time in the network
   * @throws {UserError} the network failed
   */
  segment({ rgb, width, height }, vectors) {
    return this.#ask({ task: "segment", pixels: { rgb, width, height }, vectors });
  }

  #ask(question) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, ...question });
    });
  }
}

function explain(error) {
  if (/memory|bad_alloc|RangeError/i.test(error)) {
    return `There was not enough memory: choose fewer classes or a smaller image. (${error})`;
  }
  return `The network could not be run: ${error}`;
}
