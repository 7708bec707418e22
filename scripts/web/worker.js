/**
 * The network, away from the page, which never freezes. It answers `{id, task, ...}` with `{id, result}` or
 * `{id, error}`; tasks: `open` and `segment`, see segmenter.js.
 */

const VENDOR = new URL("./vendor/", import.meta.url).href;
// WebAssembly alone is half the download of the build that has WebGPU as well. Of the latter there are two; the other,
// ort.webgpu, refuses the graph: it has no Cast to double, in which the image's size is computed.
const RUNTIMES = { wasm: "./vendor/ort.wasm.min.mjs", webgpu: "./vendor/ort.min.mjs" };
const MAX_THREADS = 4;
const TRIAL_SIZE = [640, 480]; // width and height

/** An ONNX Runtime session on one backend. */
class Network {
  /**
   * @param {"wasm" | "webgpu"} backend
   * @param {"wasm" | "webgpu"} [build] of ONNX Runtime; that for WebGPU runs WebAssembly, too
   */
  static async open(backend, build = backend) {
    const network = new Network();
    network.backend = backend;
    network.runtime = await import(RUNTIMES[build]);
    const { wasm, webgpu } = network.runtime.env;
    wasm.wasmPaths = VENDOR;
    // Threads share memory, which a browser allows only to pages whose host isolates them.
    wasm.numThreads = self.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
    network.threads = wasm.numThreads;
    if (backend === "webgpu") webgpu.powerPreference = "high-performance";
    network.session = await network.runtime.InferenceSession.create(model, {
      executionProviders: [backend],
      logSeverityLevel: 3, // errors; on WebGPU there is a warning about every model
    });
    return network;
  }

  /** Give its memory back. */
  async close() {
    await this.session.release().catch(() => {}); // on a lost device there is nothing to give back
  }

  /**
   * @returns {Promise<{indices: Uint8Array, scores: Float32Array}>} for every pixel the index of its class among
   *   `vectors`, and the logit of that class
   */
  async segment({ rgb, width, height }, { values, count, width: embedWidth }) {
    const { Tensor } = this.runtime;
    const outputs = await this.session.run({
      image: new Tensor("uint8", rgb, [height, width, 3]),
      class_embeddings: new Tensor("float32", values, [count, embedWidth]),
    });
    const result = { indices: toBytes(outputs.segmentation.data), scores: outputs.scores.data.slice() };
    for (const output of Object.values(outputs)) output.dispose();
    return result;
  }
}

let model = null; // the file: another backend may need it again
let network = null;
let note = "";

const openers = {
  wasm: async () => (network = await Network.open("wasm")),
  webgpu: async () => (network = await Network.open("webgpu").catch(openInstead)),
  fastest: async (vectors) => (network = await openFastest(vectors)),
};

const tasks = {
  async open({ buffer, vectors, backend }) {
    model = buffer;
    await openers[backend ?? (await hasGpu() ? "fastest" : "wasm")](vectors);
    return describe();
  },

  async segment({ pixels, vectors }) {
    const start = performance.now();
    let segmented;
    try {
      segmented = await network.segment(pixels, vectors);
    } catch (error) {
      if (network.backend === "wasm") throw error;
      const failed = network;
      network = await openInstead(error);
      await failed.close();
      return tasks.segment({ pixels, vectors });
    }
    return { ...segmented, milliseconds: performance.now() - start, ...describe() };
  },
};

self.onmessage = async ({ data: { id, task, ...given } }) => {
  try {
    const result = await tasks[task](given);
    self.postMessage({ id, result }, result.indices ? [result.indices.buffer, result.scores.buffer] : []);
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};

function describe() {
  return { backend: network.backend, threads: network.threads, isolated: self.crossOriginIsolated, note };
}

/** A software adapter does not count: it is slower than WebAssembly. */
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
}

/**
 * Both backends over a trial image: many small steps need not be faster on a GPU.
 * @returns {Promise<Network>} the faster one; the other has given its memory back
 */
async function openFastest(vectors) {
  const onCpu = await tryOut("wasm", vectors);
  const onGpu = await tryOut("webgpu", vectors);
  if (onGpu.error) {
    note = failure("WebGPU", onGpu.error, "WebAssembly");
    return onCpu.network ?? Network.open("wasm"); // by its own build, and without a trial
  }
  if (onCpu.error) {
    note = failure("WebAssembly", onCpu.error, "WebGPU");
    return onGpu.network;
  }
  const times = [onGpu, onCpu].map(({ milliseconds }) => milliseconds.toFixed(0));
  note = `A trial image took ${times[0]} ms on WebGPU and ${times[1]} ms on WebAssembly.`;
  const [taken, other] = onGpu.milliseconds < onCpu.milliseconds ? [onGpu, onCpu] : [onCpu, onGpu];
  await other.network.close();
  return taken.network;
}

/** @returns {Promise<{network?: Network, milliseconds?: number, error?: unknown}>} of one backend, or why it fails */
async function tryOut(backend, vectors) {
  const [width, height] = TRIAL_SIZE;
  const rgb = Uint8Array.from({ length: 3 * width * height }, (_, index) => (index * 37) % 256);
  let network;
  try {
    network = await Network.open(backend, "webgpu");
    await network.segment({ rgb, width, height }, vectors); // the first run compiles, so it does not count
    const start = performance.now();
    await network.segment({ rgb, width, height }, vectors);
    return { network, milliseconds: performance.now() - start };
  } catch (error) {
    await network?.close();
    return { error };
  }
}

/** @returns {Promise<Network>} on WebAssembly, after WebGPU failed */
async function openInstead(error) {
  const instead = await Network.open("wasm");
  note = failure("WebGPU", error, "WebAssembly");
  return instead;
}

function failure(failed, error, used) {
  return `${failed} failed (${error?.message ?? error}), so ${used} is used.`;
}

/** Class indices of any integer type as bytes. */
function toBytes(data) {
  if (data instanceof Uint8Array) return data.slice(); // a copy: the buffer is given away
  if (!(data instanceof BigInt64Array)) return Uint8Array.from(data);
  const halves = new Int32Array(data.buffer, data.byteOffset, 2 * data.length); // little-endian: the lower one first
  const bytes = new Uint8Array(data.length);
  for (let pixel = 0; pixel < data.length; pixel++) bytes[pixel] = halves[2 * pixel];
  return bytes;
}
