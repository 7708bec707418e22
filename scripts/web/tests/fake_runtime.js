/**
 * In place of ONNX Runtime: lists its open sessions in `self.open`; `self.failures` says by backend whether it fails
 * when it is opened ("open") or in the run of that number (1 and 2 are on the trial image). A run takes a millisecond
 * of `self.clock`, and 20 of them on the backend `self.slow`.
 */

export const env = { wasm: {}, webgpu: {} };

export class Tensor {}

export class InferenceSession {
  static async create(model, { executionProviders: [backend] }) {
    failIf(backend, "open");
    self.open.push(backend);
    let runs = 0;
    return {
      run: async () => {
        failIf(backend, ++runs);
        self.clock += backend === self.slow ? 20 : 1;
        const dispose = () => {};
        return { segmentation: { data: new Uint8Array(1), dispose }, scores: { data: new Float32Array(1), dispose } };
      },
      release: async () => self.open.splice(self.open.indexOf(backend), 1),
    };
  }
}

function failIf(backend, when) {
  if (self.failures[backend] === when) throw new Error(`${backend} gave up`);
}
