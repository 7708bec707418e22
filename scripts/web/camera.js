/** The camera of the visitor's device. */

import { CAMERA_SIDE, InputImage } from "./image.js";
import { UserError } from "./user_error.js";

const REASONS = {
  NotAllowedError: "The camera was refused: allow it for this page in the browser, or choose an image.",
  NotFoundError: "There is no camera on this device; choose an image.",
  NotReadableError: "The camera is in use by another program; close that one, or choose an image.",
};

/** One turn of the camera: it is started once and stopped once, maybe before the visitor has allowed it. */
export class Camera {
  #video = document.createElement("video");
  #stream = null;
  #stopped = false;

  /** @returns {boolean} whether it is over */
  get stopped() {
    return this.#stopped;
  }

  /**
   * Resolves once it runs, or once it was stopped instead.
   * @throws {UserError} refused, none there, in use, no image from it, or a page without https
   */
  async start() {
    if (!navigator.mediaDevices) {
      throw new UserError("A browser gives the camera only to pages served by https or from this very machine.");
    }
    try {
      const video = { facingMode: "environment", width: { ideal: CAMERA_SIDE } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      if (this.#stopped) {
        this.stop(); // the stream came too late
        return;
      }
      this.#video.muted = true;
      this.#video.playsInline = true;
      this.#video.srcObject = this.#stream;
      await this.#video.play(); // refused where stop() takes the stream away
    } catch (error) {
      if (!this.#stopped) throw new UserError(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
  }

  /** @returns {Promise<InputImage>} what it sees now */
  async shoot() {
    return new InputImage(await createImageBitmap(this.#video), "camera", CAMERA_SIDE);
  }

  stop() {
    this.#stopped = true;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }
}
