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
  #lost = false;

  /** @param {MediaTrackConstraints} [wanted] which camera; by default, of a phone's, the one at its back */
  constructor(wanted = { facingMode: "environment" }) {
    this.wanted = wanted;
  }

  /** @returns {boolean} whether it is over */
  get stopped() {
    return this.#stopped;
  }

  get #settings() {
    return this.#stream.getVideoTracks()[0].getSettings();
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
      const video = { ...this.wanted, width: { ideal: CAMERA_SIDE } };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      if (this.#stopped) {
        this.stop(); // the stream came too late
        return;
      }
      this.#stream.getVideoTracks()[0].addEventListener("ended", () => (this.#lost = true));
      this.#video.muted = true;
      this.#video.playsInline = true;
      this.#video.srcObject = this.#stream;
      await this.#video.play(); // refused where stop() takes the stream away
    } catch (error) {
      if (!this.#stopped) throw new UserError(REASONS[error.name] ?? `The camera cannot be used: ${error.message}`);
    }
  }

  /**
   * While it runs.
   * @returns {Promise<MediaTrackConstraints | null>} of the next camera: of a phone, which has several at its back, the
   *   one that faces the other way; null where there is no other
   */
  async another() {
    const { facingMode, deviceId } = this.#settings;
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter(({ kind }) => kind === "videoinput").map((device) => device.deviceId);
    if (cameras.length < 2) return null;
    if (facingMode) return { facingMode: facingMode === "user" ? "environment" : "user" };
    return { deviceId: cameras[(cameras.indexOf(deviceId) + 1) % cameras.length] };
  }

  /**
   * @returns {Promise<InputImage>} what it sees now: frames that came meanwhile are dropped
   * @throws {UserError} it was unplugged, or another program took it
   */
  async shoot() {
    if (this.#lost) throw new UserError("The camera was taken away; start it again, or choose an image.");
    const mirrored = this.#settings.facingMode === "user"; // as everybody knows their own face
    return new InputImage(await createImageBitmap(this.#video), "camera", { mirrored, live: true });
  }

  stop() {
    this.#stopped = true;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }
}
