/** Images: decoded as modeling_lclipseg does it (opening_lclipseg.py, inputs_lclipseg.py), and limited in size. */

import { UserError } from "./user_error.js";

export const WORKING_SIDE = 1600; // pixels; larger images are scaled down to this longer side
export const CAMERA_SIDE = 640;

/**
 * The size at which an image is worked on: its own, or smaller where that is too large.
 * @param {number} width
 * @param {number} height
 * @param {number} longestSide
 * @returns {{width: number, height: number}} in pixels, each at least 1
 */
export function workingSize(width, height, longestSide) {
  const scale = Math.min(1, longestSide / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** A decoded image, upright. */
export class InputImage {
  #pixels = null;

  /**
   * @param {ImageBitmap} bitmap
   * @param {string} name of its file
   * @param {{live?: boolean, mirrored?: boolean}} [film] whether it is one of many frames, which follow each other, and
   *   whether it is shown as in a mirror
   */
  constructor(bitmap, name, { live = false, mirrored = false } = {}) {
    this.bitmap = bitmap;
    this.width = bitmap.width;
    this.height = bitmap.height;
    this.name = name;
    this.live = live;
    this.mirrored = mirrored;
  }

  /**
   * @param {Blob} file
   * @param {string} name
   * @returns {Promise<InputImage>} turned upright by its EXIF orientation; of an animation, the first frame
   * @throws {UserError} not an image that this browser reads
   */
  static async decode(file, name) {
    try {
      // Colours as they are stored: Python does not apply colour profiles either.
      const bitmap = await createImageBitmap(file, {
        imageOrientation: "from-image",
        colorSpaceConversion: "none",
      });
      return new InputImage(bitmap, name);
    } catch {
      throw new UserError(`${name} is not an image, is damaged, or is of a format that this browser does not read.`);
    }
  }

  /**
   * The image at its working size, on white where it is transparent.
   * @returns {{canvas: HTMLCanvasElement, rgb: Uint8Array, width: number, height: number}}
   */
  prepare() {
    this.#pixels ??= this.#draw(workingSize(this.width, this.height, this.live ? CAMERA_SIDE : WORKING_SIDE));
    return this.#pixels;
  }

  /** Give its memory back. */
  close() {
    this.bitmap.close();
  }

  #draw({ width, height }) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0, width, height);
    const rgba = context.getImageData(0, 0, width, height).data;
    return { canvas, rgb: withoutAlpha(rgba), width, height };
  }
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}
