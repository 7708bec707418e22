/** The files beside the network, in the folder that `lclipseg export` wrote. */

import { UserError } from "./user_error.js";
import { namesFileOf, readWordBank } from "./word_bank.js";

const NETWORK = "model/model.onnx";
const ABOUT = "model/export.json";
const OWN_CLASSES = "model/class_embeddings.safetensors";
const FURTHER_WORDS = "words.safetensors";
const HOW = "Export it by `lclipseg export` with --vocabulary open and --label_map; `make web` does so.";

/**
 * @returns {Promise<{network: ArrayBuffer, name: string, int8: boolean, own: import("./word_bank.js").WordBank}>} the
 *   network, the checkpoint's name, whether it is quantised, and its classes
 * @throws {UserError} a file is missing or broken, or the host does not answer
 */
export async function readModelFiles() {
  const [network, about, own] = await Promise.all([fetchNeeded(NETWORK), fetchNeeded(ABOUT), fetchBank(OWN_CLASSES)]);
  if (!own) throw missing(OWN_CLASSES);
  const record = readRecord(await about.text());
  if (record?.vocabulary !== "open" || !record.label_map) {
    throw new UserError(`The model was not exported with open vocabulary and label map. ${HOW}`);
  }
  if (!record.outputs?.scores) {
    throw new UserError("The model was exported by an older version, whose label maps had no scores. Export it again.");
  }
  const name = lastPart(String(record.model ?? ""));
  return { network: await network.arrayBuffer(), name, int8: Boolean(record.int8), own };
}

/**
 * @returns {Promise<import("./word_bank.js").WordBank | null>} `words.safetensors` beside the page, if it is there
 * @throws {UserError} it is there but broken, or the host does not answer
 */
export function readFurtherWords() {
  return fetchBank(FURTHER_WORDS);
}

/**
 * @param {string} path of a file beside the page
 * @returns {Promise<Blob>}
 * @throws {UserError} it is missing, or the host does not answer
 */
export async function fetchNeeded(path) {
  const file = await fetchFile(path);
  if (!file) throw missing(path);
  return file;
}

function missing(path) {
  return new UserError(`${path} is missing beside this page. ${HOW}`);
}

async function fetchBank(path) {
  const names = await fetchFile(namesFileOf(path));
  const vectors = names && (await fetchFile(path));
  if (!vectors) return null;
  return readWordBank(await vectors.arrayBuffer(), await names.text(), path);
}

/** @returns {Promise<Blob | null>} null where there is no such file beside the page */
async function fetchFile(path) {
  try {
    const response = await fetch(new URL(path, import.meta.url));
    // Some hosts answer with a page of theirs, and no error, where there is no file; none of ours is a page.
    const isPage = response.headers.get("content-type")?.startsWith("text/html");
    return response.ok && !isPage ? await response.blob() : null;
  } catch (error) {
    throw new UserError(`${path} could not be loaded (${error.message}): check the connection, reload the page.`);
  }
}

function readRecord(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${ABOUT} cannot be read as JSON; export the model again.`);
  }
}

/** A checkpoint's name without the folders that it lies in. */
function lastPart(path) {
  return path.replace(/\/+$/, "").split("/").at(-1);
}
