/** The camera of the visitor's device. */

import { CAMERA_SIDE, Picture } from "./picture.js";
import { UserError } from "./user_error.js";

const REASONS = {
  NotAllowedError: "The camera was refused: allow it for this page in the browser, or choose a picture.",
  NotFoundError: "There is no camera on this device; choose a picture.",
  NotReadableError: "The camera is in use by another program; close that one, or choose a picture.",
};

export class Camera {
  #video = document.createElement("video");
  #stream = null;

  /** @returns {boolean} whether it runs */
  get on() {
    return this.#stream !== null;
  }

  /** @throws {UserError} refused, none there, in use, or a page without https */
  async start() {
    if (!navigator.mediaDevices) {
      throw new UserError("A browser gives the camera only to pages served by https or from this very machine.");
    }
    try {
      const video = { facingMode: "environment", width: { ideal: CAMERA_SIDE } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw new UserError(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
    this.#video.muted = true;
    this.#video.playsInline = true;
    this.#video.srcObject = this.#stream;
    await this.#video.play();
  }

  /** @returns {Promise<Picture>} what it sees now */
  async shoot() {
    return new Picture(await createImageBitmap(this.#video), "camera", CAMERA_SIDE);
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }
}
