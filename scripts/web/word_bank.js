/** Word banks: words with their text vectors, as modeling_lclipseg/word_bank_lclipseg.py writes them. */

import { readTensors } from "./safetensors.js";
import { UserError } from "./user_error.js";

const DEFAULT_KEYS = ["words", "bank.single"];
const CENTER_KEY = "class_center"; // in the files that `lclipseg export` writes
// The two figures of modeling_lclipseg/class_vectors_lclipseg.py, where it says how they were measured.
const SAME_TOWER_COSINE = 0.3;
const SHORTEST_CENTER = 0.5;

/** Words with their vectors, of unit length. Of a word that stands twice, the first row counts. */
export class WordBank {
  /**
   * @param {string[]} names
   * @param {{shape: number[], values: Float32Array}} matrix one row for each name
   * @param {string} fileName for messages
   * @param {Float32Array} [center] the common direction of all vectors of the text tower, where the file has it
   */
  constructor(names, { shape: [rows, width], values }, fileName, center) {
    if (!names.length || names.length !== rows) {
      throw new UserError(`${fileName}: ${names.length} words for ${rows} vectors; every vector needs its word.`);
    }
    this.names = names;
    this.width = width;
    this.fileName = fileName;
    this.center = center;
    this.vectors = names.map((_, row) => unitRow(values.slice(row * width, (row + 1) * width), row, fileName));
    this.rows = new Map();
    names.forEach((name, row) => {
      if (!this.rows.has(foldName(name))) this.rows.set(foldName(name), row);
    });
  }

  /** @returns {Float32Array | undefined} the vector of a word; case and the amount of white space do not matter */
  find(name) {
    return this.vectors[this.rows.get(foldName(name))];
  }

  /** @returns {string | undefined} how the bank itself writes a word */
  spelling(name) {
    return this.names[this.rows.get(foldName(name))];
  }

  /**
   * Vectors of another text tower would segment nonsense. Every tower has a common direction of its own.
   * @param {WordBank} own the checkpoint's classes, with the common direction of its tower
   * @throws {UserError} another width, or another direction
   */
  checkSameTower(own) {
    if (this.width !== own.width) {
      throw new UserError(
        `The vectors in ${this.fileName} are ${this.width} wide, but this model takes ${own.width}: ` +
          "they come from another text tower.",
      );
    }
    const length = own.center ? Math.hypot(...own.center) : 0;
    if (length < SHORTEST_CENTER) return;
    let lowest = Infinity;
    for (const vector of this.vectors) lowest = Math.min(lowest, dot(vector, own.center) / length);
    if (lowest < SAME_TOWER_COSINE) {
      throw new UserError(
        `The vectors in ${this.fileName} do not come from this model's text tower: their cosine with its common ` +
          `direction goes down to ${lowest.toFixed(2)}, and that of its own vectors is above 0.6.`,
      );
    }
  }
}

/**
 * A word bank from its two files.
 * @param {ArrayBuffer} buffer of NAME.safetensors
 * @param {string} namesText of NAME_names.json
 * @param {string} fileName of the former, for messages
 * @returns {WordBank}
 * @throws {UserError} a file that cannot be read, or words and vectors that do not go together
 */
export function readWordBank(buffer, namesText, fileName) {
  const tensors = readTensors(buffer, fileName);
  const keys = [...tensors.keys()].filter((candidate) => tensors.get(candidate).shape.length === 2);
  const key = (keys.length === 1 ? keys : DEFAULT_KEYS).find((candidate) => keys.includes(candidate));
  if (key === undefined) {
    throw new UserError(`${fileName} has no matrix called ${DEFAULT_KEYS.join(" or ")}, so it is no word bank.`);
  }
  const names = readNames(namesText, key, namesFileOf(fileName));
  return new WordBank(names, tensors.get(key), fileName, tensors.get(CENTER_KEY)?.values);
}

/** @returns {string} `words_names.json` for `words.safetensors` */
export function namesFileOf(fileName) {
  return fileName.replace(/\.safetensors$/, "_names.json");
}

/** @returns {string} what two spellings of one name have in common: case and white space do not matter */
export function foldName(name) {
  // Upper case first: it makes "ß" the "SS" that Python's casefold makes of it.
  return name.split(/\s+/).filter(Boolean).join(" ").toUpperCase().toLowerCase();
}

/**
 * The words nearest to one that is not there.
 * @param {string} name
 * @param {string[]} words
 * @returns {string | undefined} the one with the fewest letters to change, if that is less than half of them
 */
export function nearestWord(name, words) {
  const folded = foldName(name);
  let best;
  let fewest = Math.max(2, Math.ceil(folded.length / 2));
  for (const word of words) {
    const changes = editDistance(folded, foldName(word), fewest);
    if (changes < fewest) [best, fewest] = [word, changes];
  }
  return best;
}

function readNames(text, key, fileName) {
  let names;
  try {
    names = JSON.parse(text)?.names?.[key];
  } catch {
    throw new UserError(`${fileName} cannot be read as JSON.`);
  }
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string" && name.trim())) {
    throw new UserError(`${fileName} must be {"names": {"${key}": [words in row order]}}.`);
  }
  return names.map((name) => name.trim());
}

function unitRow(vector, row, fileName) {
  const length = Math.sqrt(dot(vector, vector));
  if (!(length >= 1e-6 && length < Infinity)) {
    throw new UserError(`${fileName}: vector ${row} is zero or not finite; embed the words again.`);
  }
  return vector.map((value) => value / length);
}

function dot(left, right) {
  let total = 0;
  for (let axis = 0; axis < left.length; axis++) total += left[axis] * right[axis];
  return total;
}

/** Levenshtein's distance; `limit` where it is at least that. */
function editDistance(left, right, limit) {
  if (Math.abs(left.length - right.length) >= limit) return limit;
  let above = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const change = above[column - 1] + (left[row - 1] === right[column - 1] ? 0 : 1);
      current.push(Math.min(change, above[column] + 1, current[column - 1] + 1));
    }
    above = current;
  }
  return above[right.length];
}
