/** The result: image, colours, legend, latency, and files to keep. Drawing it again runs no network. */

import { aboveLeast, classShares, formatShare, NO_CLASS } from "./label_map.js";
import { classPalette } from "./palette.js";
import { encodeIndexedPng } from "./png.js";
import { UserError } from "./user_error.js";

const MAX_NAME = 40; // letters that a name has in the label for screen readers
const NONE_OF_THESE = { name: "none of these", rgb: [128, 128, 128] };

export class ResultPanel {
  #stage = document.getElementById("stage");
  #photo = document.getElementById("photo");
  #tint = document.getElementById("tint");
  #opacity = document.getElementById("opacity");
  #least = document.getElementById("least");
  #pointed = document.getElementById("pointed");
  #shown = null;

  /** @param {(action: () => unknown) => Promise<void>} attempt runs an action and shows the visitor its error */
  constructor(attempt) {
    this.#opacity.addEventListener("input", () => this.#applyOpacity());
    this.#least.addEventListener("input", () => this.#draw());
    for (const event of ["pointermove", "pointerdown"]) this.#tint.addEventListener(event, (at) => this.#point(at));
    this.#tint.addEventListener("pointerleave", () => (this.#pointed.hidden = true));
    document.getElementById("save-overlay").addEventListener("click", () => attempt(() => this.#saveOverlay()));
    document.getElementById("save-mask").addEventListener("click", () => attempt(() => this.#saveMask()));
    this.#applyOpacity();
  }

  /**
   * @param {{name: string, canvas: HTMLCanvasElement, found: Uint8Array, scores: Float32Array, names: string[],
   *   chosen: number[], live: boolean, mirrored: boolean}} result the image at its working size, of every pixel the
   *   class id and its logit, all names by id, the ids that were asked for, whether others follow at once, and whether
   *   it is shown as in a mirror
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
    this.#draw();
    this.#stage.classList.remove("empty");
    this.#stage.classList.toggle("mirrored", result.mirrored);
    document.getElementById("controls").hidden = false;
    return performance.now() - start;
  }

  /** The label map, with what scores enough. */
  #draw() {
    const { found, scores } = this.#shown;
    const given = this.#least.valueAsNumber;
    const least = given > Number(this.#least.min) ? given : null;
    document.getElementById("least-value").textContent = least === null ? "any" : least.toFixed(1);
    Object.assign(this.#shown, { least, ids: aboveLeast(found, scores, least) });
    this.#tint.getContext("2d").putImageData(this.#coloured(), 0, 0);
    this.#showShares();
    this.#pointed.hidden = true;
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
    const opaque = new Uint32Array(256); // clear where there is no class
    palette.forEach(([red, green, blue], id) => (opaque[id] = (255 << 24) | (blue << 16) | (green << 8) | red));
    const pixels = new Uint32Array(ids.length);
    for (let pixel = 0; pixel < ids.length; pixel++) pixels[pixel] = opaque[ids[pixel]];
    return new ImageData(new Uint8ClampedArray(pixels.buffer), canvas.width, canvas.height);
  }

  #showShares() {
    const { ids, names, chosen, live, least } = this.#shown;
    const shares = classShares(ids);
    const found = new Set(shares.map(({ id }) => id));
    const absent = chosen.filter((id) => !found.has(id));
    const table = document.getElementById("shares");
    // From frame to frame the page stays as it is: every class has a row, always the same one.
    const others = least === null || found.has(NO_CLASS) ? absent : [...absent, NO_CLASS];
    const every = [...shares, ...others.map((id) => ({ id, share: 0 }))].sort((left, right) => left.id - right.id);
    const rows = live ? every : shares;
    table.tBodies[0].replaceChildren(...rows.map(({ id, share }) => shareRow(this.#class(id), share)));
    table.hidden = false;
    document.getElementById("absent").textContent =
      absent.length && !live ? `Not found: ${absent.map((id) => names[id]).join(", ")}` : "";
    const spoken = shares.map(({ id, share }) => `${this.#class(id).name.slice(0, MAX_NAME)} ${formatShare(share)}`);
    this.#tint.setAttribute("aria-label", `The image with its classes in colour: ${spoken.join(", ")}`);
  }

  /** @returns {{name: string, rgb: number[]}} of an id of the label map */
  #class(id) {
    return id === NO_CLASS ? NONE_OF_THESE : { name: this.#shown.names[id], rgb: this.#shown.palette[id] };
  }

  /** The name of the class under the pointer, beside it. */
  #point({ clientX, clientY }) {
    const { ids, canvas, mirrored } = this.#shown;
    const box = this.#tint.getBoundingClientRect();
    const [x, y] = [clientX - box.left, clientY - box.top];
    const across = (mirrored ? box.width - x : x) / box.width;
    const column = clamp(Math.floor(across * canvas.width), canvas.width);
    const row = clamp(Math.floor((y / box.height) * canvas.height), canvas.height);
    const { name, rgb } = this.#class(ids[row * canvas.width + column]);
    this.#pointed.querySelector(".label").textContent = name;
    this.#pointed.querySelector(".chip").style.background = cssColour(rgb);
    this.#pointed.hidden = false;
    const { offsetWidth, offsetHeight } = this.#pointed;
    const left = Math.min(x + 14, box.width - offsetWidth - 4);
    const top = y - offsetHeight - 14;
    this.#pointed.style.left = `${Math.max(4, left)}px`;
    this.#pointed.style.top = `${top < 4 ? y + 18 : top}px`;
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
    const { ids, canvas, name } = this.#shown;
    save(await encodeIndexedPng(ids, canvas.width, canvas.height, classPalette(256)), name, "mask");
  }
}

/** @returns {string} for CSS */
export function cssColour([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

function shareRow({ name, rgb }, share) {
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
  bar.hidden = !share;
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
