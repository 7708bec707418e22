/** The classes of the page: the checkpoint's own, then those that were added; each is on or off. */

import { UserError } from "./user_error.js";
import { foldName, nearestWord } from "./word_bank.js";

export const MAX_CLASSES = 256; // their ids fit into a byte

/**
 * A class keeps its place, and with it its id and colour, when it or another is switched off: only what is on goes
 * into the network.
 */
export class ClassList {
  /**
   * @param {import("./word_bank.js").WordBank} own the checkpoint's classes with their vectors, at most MAX_CLASSES
   * @throws {UserError} more than that
   */
  constructor(own) {
    if (own.names.length > MAX_CLASSES) {
      throw new UserError(
        `The model has ${own.names.length} classes of its own, but a label map holds no more than ${MAX_CLASSES}. ` +
          "Export it with fewer: `lclipseg export` takes them as --classes.",
      );
    }
    this.own = own;
    this.reset();
  }

  /** Back to the checkpoint's own classes, all on. */
  reset() {
    this.entries = this.own.names.map((name, row) => ({ name, vector: this.own.vectors[row], on: true }));
  }

  /** @returns {string[]} every name, by class id */
  get names() {
    return this.entries.map((entry) => entry.name);
  }

  /** @returns {number[]} ids of the classes that are on */
  get chosen() {
    return this.entries.flatMap((entry, id) => (entry.on ? [id] : []));
  }

  /**
   * The vectors of the classes that are on, one after the other.
   * @returns {{values: Float32Array, count: number, width: number}}
   */
  get vectors() {
    const chosen = this.chosen;
    const width = this.own.width;
    const values = new Float32Array(chosen.length * width);
    chosen.forEach((id, row) => values.set(this.entries[id].vector, row * width));
    return { values, count: chosen.length, width };
  }

  /**
   * Switch a class on or off.
   * @param {number} id
   * @throws {UserError} it is the last one that is on
   */
  toggle(id) {
    const entry = this.entries[id];
    if (entry.on && this.chosen.length === 1) {
      throw new UserError("At least one class must stay: switch another one on first.");
    }
    entry.on = !entry.on;
  }

  /**
   * Add a word of the bank; a class that is there but off is switched on.
   * @param {string} name
   * @param {import("./word_bank.js").WordBank | null} bank
   * @returns {string} the name of the class
   * @throws {UserError} blank, already on, too many, or without a vector
   */
  add(name, bank) {
    if (!name.trim()) throw new UserError("Write a word first.");
    const there = this.entries.find((entry) => foldName(entry.name) === foldName(name));
    if (there?.on) throw new UserError(`"${there.name}" is one of the classes already.`);
    if (there) {
      there.on = true;
      return there.name;
    }
    if (this.entries.length >= MAX_CLASSES) {
      throw new UserError(`A label map holds no more than ${MAX_CLASSES} classes, and so many there are. Reset them.`);
    }
    const vector = bank?.find(name);
    if (!vector) throw new UserError(this.#explainMissing(name.trim(), bank));
    this.entries.push({ name: bank.spelling(name), vector, on: true });
    return bank.spelling(name);
  }

  #explainMissing(name, bank) {
    const near = nearestWord(name, [...this.names, ...(bank?.names ?? [])]);
    const where = bank
      ? "neither in the model nor in the word bank"
      : "not in the model, and no word bank is loaded";
    const meant = near ? ` (did you mean "${near}"?)` : "";
    return (
      `There is no vector for "${name}": it is ${where}${meant}. This page has no text tower; scripts/embed.py ` +
      "makes a word bank with the words that you want."
    );
  }
}
