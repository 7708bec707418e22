/** The result: image, colours, legend, latency, and files to keep. Drawing it again runs no network. */

import { classShares, formatShare } from "./label_map.js";
import { classPalette } from "./palette.js";
import { encodeIndexedPng } from "./png.js";
import { UserError } from "./user_error.js";

const MAX_NAME = 40; // letters that a name has in the label for screen readers

export class ResultPanel {
  #stage = document.getElementById("stage");
  #photo = document.getElementById("photo");
  #tint = document.getElementById("tint");
  #opacity = document.getElementById("opacity");
  #pointed = document.getElementById("pointed");
  #shown = null;

  /** @param {(action: () => unknown) => Promise<void>} attempt runs an action and shows the visitor its error */
  constructor(attempt) {
    this.#opacity.addEventListener("input", () => this.#applyOpacity());
    for (const event of ["pointermove", "pointerdown"]) this.#tint.addEventListener(event, (at) => this.#point(at));
    this.#tint.addEventListener("pointerleave", () => (this.#pointed.hidden = true));
    document.getElementById("save-overlay").addEventListener("click", () => attempt(() => this.#saveOverlay()));
    document.getElementById("save-mask").addEventListener("click", () => attempt(() => this.#saveMask()));
    this.#applyOpacity();
  }

  /**
   * @param {{name: string, canvas: HTMLCanvasElement, ids: Uint8Array, names: string[], chosen: number[]}} result
   *   the image at its working size, the class id of every pixel, all names by id, and the ids that were asked for
   * @returns {number} milliseconds that drawing took
   */
  show(result) {
    const start = performance.now();
    this.#shown = { ...result, palette: classPalette(result.names.length) };
    const { canvas } = result;
    for (const layer of [this.#photo, this.#tint]) {
      layer.width = canvas.width;
      layer.height = canvas.height;
    }
    this.#photo.getContext("2d").drawImage(canvas, 0, 0);
    this.#tint.getContext("2d").putImageData(this.#coloured(), 0, 0);
    this.#showShares();
    this.#stage.classList.remove("empty");
    this.#pointed.hidden = true;
    document.getElementById("controls").hidden = false;
    return performance.now() - start;
  }

  /** @param {{stage: string, milliseconds: number}[]} stages in their order */
  showLatency(stages, remark = "") {
    const total = stages.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    const parts = stages.map(({ stage, milliseconds }) => `${stage} ${formatMilliseconds(milliseconds)}`);
    document.getElementById("latency").textContent =
      `${formatMilliseconds(total)} ms in all: ${parts.join(" · ")}${remark && `. ${remark}`}`;
  }

  /** @param {{backend: string, threads: number, isolated: boolean, note: string}} ran where the network ran */
  showBackend({ backend, threads, isolated, note }) {
    const processor = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
    const why = isolated ? "" : " (this host does not send the COOP and COEP headers that threads need)";
    document.getElementById("backend").textContent =
      `Runs on: ${processor}${backend === "wasm" ? why : ""}.${note && ` ${note}`}`;
  }

  #applyOpacity() {
    const opacity = this.#opacity.valueAsNumber;
    this.#tint.style.opacity = opacity;
    document.getElementById("opacity-value").textContent = `${Math.round(100 * opacity)} %`;
  }

  #coloured() {
    const { ids, palette, canvas } = this.#shown;
    const opaque = Uint32Array.from(palette, ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
    const pixels = new Uint32Array(ids.length);
    for (let pixel = 0; pixel < ids.length; pixel++) pixels[pixel] = opaque[ids[pixel]];
    return new ImageData(new Uint8ClampedArray(pixels.buffer), canvas.width, canvas.height);
  }

  #showShares() {
    const { ids, names, chosen, palette } = this.#shown;
    const shares = classShares(ids);
    const found = new Set(shares.map(({ id }) => id));
    const table = document.getElementById("shares");
    table.tBodies[0].replaceChildren(...shares.map(({ id, share }) => shareRow(names[id], share, palette[id])));
    table.hidden = false;
    const absent = chosen.filter((id) => !found.has(id)).map((id) => names[id]);
    document.getElementById("absent").textContent = absent.length ? `Not found: ${absent.join(", ")}` : "";
    const spoken = shares.map(({ id, share }) => `${names[id].slice(0, MAX_NAME)} ${formatShare(share)}`);
    this.#tint.setAttribute("aria-label", `The image with its classes in colour: ${spoken.join(", ")}`);
  }

  /** The name of the class under the pointer, beside it. */
  #point({ offsetX, offsetY }) {
    const { ids, names, palette, canvas } = this.#shown;
    const box = this.#tint.getBoundingClientRect();
    const column = clamp(Math.floor((offsetX / box.width) * canvas.width), canvas.width);
    const row = clamp(Math.floor((offsetY / box.height) * canvas.height), canvas.height);
    const id = ids[row * canvas.width + column];
    this.#pointed.querySelector(".label").textContent = names[id];
    this.#pointed.querySelector(".chip").style.background = cssColour(palette[id]);
    this.#pointed.hidden = false;
    const { offsetWidth, offsetHeight } = this.#pointed;
    const left = Math.min(offsetX + 14, box.width - offsetWidth - 4);
    const top = offsetY - offsetHeight - 14;
    this.#pointed.style.left = `${Math.max(4, left)}px`;
    this.#pointed.style.top = `${top < 4 ? offsetY + 18 : top}px`;
  }

  async #saveOverlay() {
    const { canvas, name } = this.#shown;
    const drawing = document.createElement("canvas");
    drawing.width = canvas.width;
    drawing.height = canvas.height;
    const context = drawing.getContext("2d");
    context.drawImage(this.#photo, 0, 0);
    context.globalAlpha = this.#opacity.valueAsNumber;
    context.drawImage(this.#tint, 0, 0);
    const file = await new Promise((resolve) => drawing.toBlob(resolve, "image/png"));
    if (!file) throw new UserError("The browser could not write the overlay: it is too large; use a smaller image.");
    save(file, name, "overlay");
  }

  async #saveMask() {
    const { ids, canvas, palette, name } = this.#shown;
    save(await encodeIndexedPng(ids, canvas.width, canvas.height, palette), name, "mask");
  }
}

/** @returns {string} for CSS */
export function cssColour([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

function shareRow(name, share, rgb) {
  const row = document.createElement("tr");
  const [nameCell, number, scale] = [row.insertCell(), row.insertCell(), row.insertCell()];
  const label = nameCell.appendChild(document.createElement("div"));
  label.className = "name";
  const chip = label.appendChild(document.createElement("span"));
  chip.className = "chip";
  label.appendChild(document.createElement("span")).textContent = name;
  number.className = "number";
  number.textContent = formatShare(share);
  scale.className = "scale";
  const bar = scale.appendChild(document.createElement("div"));
  bar.className = "bar";
  bar.style.width = `${100 * share}%`;
  for (const coloured of [chip, bar]) coloured.style.background = cssColour(rgb);
  return row;
}

function save(blob, imageName, what) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${imageName.replace(/\.[^.]*$/, "") || "image"}_${what}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser has read it by then
}

function clamp(index, length) {
  return Math.min(Math.max(index, 0), length - 1);
}

function formatMilliseconds(milliseconds) {
  return milliseconds < 10 ? milliseconds.toFixed(1) : milliseconds.toFixed(0);
}
