/** The classes of the page: those of the checkpoint that it begins with, then those that were added; on or off each. */

import { UserError } from "./user_error.js";
import { foldName, nearestWord } from "./word_bank.js";

export const MAX_CLASSES = 255; // their ids fit into a byte, and 255 says that a pixel is none of them
const SHOWN_CLASSES = 20; // of a longer list only the first words are shown, and the others found by a search
const FIRST_WORDS = ["sky", "building", "road", "tree", "grass", "car", "pole", "person"]; // they fit the example

/**
 * A class keeps its place, and with it its id and colour, when it or another is switched off: only what is on goes
 * into the network.
 */
export class ClassList {
  /**
   * @param {import("./word_bank.js").WordBank} own the checkpoint's classes with their vectors
   */
  constructor(own) {
    this.own = own;
    this.reset();
  }

  /** Back to the checkpoint's own classes, all on; to a few of them where they are many. */
  reset() {
    const { names } = this.own;
    const first = FIRST_WORDS.filter((name) => this.own.find(name));
    const few = first.length ? first : names.slice(0, SHOWN_CLASSES);
    this.entries = (names.length > SHOWN_CLASSES ? few : names).map((name) => this.#entry(name, this.own));
  }

  /**
   * The words that may be added, the checkpoint's own first.
   * @param {import("./word_bank.js").WordBank | null} bank
   * @returns {string[]}
   */
  known(bank) {
    return [...this.own.names, ...(bank?.names ?? []).filter((name) => !this.own.find(name))];
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
   * Add a word of the checkpoint's or of the bank; a class that is there but off is switched on.
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
    const source = [this.own, bank].find((words) => words?.find(name));
    if (!source) throw new UserError(this.#explainMissing(name.trim(), bank));
    this.entries.push(this.#entry(name, source));
    return source.spelling(name);
  }

  #entry(name, source) {
    return { name: source.spelling(name), vector: source.find(name), on: true };
  }

  #explainMissing(name, bank) {
    const near = nearestWord(name, this.known(bank));
    const where = bank
      ? "neither in the model nor in the word bank"
      : "not in the model, and no word bank is loaded";
    const meant = near ? ` (did you mean "${near}"?)` : "";
    return (
      `There is no vector for "${name}": it is ${where}${meant}. This page has no text tower; lclipseg embed ` +
      "makes a word bank with the words that you want."
    );
  }
}
