/** The chips of the classes, the search in the known words, and loading another bank. */

import { onFilesChosen } from "./file_input.js";
import { classPalette } from "./palette.js";
import { cssColour } from "./result_panel.js";
import { UserError } from "./user_error.js";
import { foldName, namesFileOf, readWordBank } from "./word_bank.js";

const MAX_MATCHES = 40;

export class ClassesPanel {
  #chips = document.getElementById("chips");
  #word = document.getElementById("word");
  #matches = document.getElementById("matches");
  #halves = new Map(); // the files of a bank by name: they may come one after the other
  #bank = null;

  /**
   * @param {import("./class_list.js").ClassList} classes
   * @param {() => Promise<void>} onChange the classes that are on have changed
   * @param {(action: () => unknown) => Promise<void>} attempt runs an action and shows the visitor its error
   */
  constructor(classes, onChange, attempt) {
    this.classes = classes;
    this.onChange = onChange;
    this.#word.addEventListener("input", () => this.#showMatches());
    document.getElementById("add").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(() => this.#add(this.#word.value));
    });
    this.#matches.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) attempt(() => this.#add(button.value));
    });
    this.#chips.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) attempt(() => this.#toggle(Number(button.value)));
    });
    document.getElementById("reset").addEventListener("click", () => attempt(() => this.#reset()));
    onFilesChosen(document.getElementById("bank"), (files) => attempt(() => this.takeBankFiles(files)));
    this.#showChips();
  }

  /**
   * @param {import("./word_bank.js").WordBank} bank
   * @throws {import("./user_error.js").UserError} of another text tower
   */
  useBank(bank) {
    bank.checkSameTower(this.classes.own);
    this.#bank = bank;
    document.getElementById("bank-about").textContent = `${bank.fileName}: ${bank.names.length} words.`;
    this.#showMatches();
  }

  /**
   * Files of a word bank, both or one: the other may come later.
   * @param {File[]} files
   * @throws {UserError} one that cannot be read
   */
  async takeBankFiles(files) {
    for (const file of files) this.#halves.set(file.name, file);
    const vectors = [...this.#halves.values()].findLast(({ name }) => name.endsWith(".safetensors"));
    const names = vectors && this.#halves.get(namesFileOf(vectors.name));
    if (!vectors || !names) {
      const there = vectors ?? files[0];
      const wanted = vectors ? namesFileOf(vectors.name) : "the .safetensors file beside it";
      throw new UserError(`A word bank is two files: ${there.name} is here, now choose ${wanted}, too.`);
    }
    this.#halves.clear();
    this.useBank(readWordBank(await vectors.arrayBuffer(), await names.text(), vectors.name));
  }

  #add(name) {
    this.classes.add(name, this.#bank);
    this.#word.value = "";
    return this.#changed();
  }

  #toggle(id) {
    this.classes.toggle(id);
    const changed = this.#changed();
    this.#chips.children[id].focus();
    return changed;
  }

  #reset() {
    this.classes.reset();
    return this.#changed();
  }

  #changed() {
    this.#showChips();
    this.#showMatches();
    return this.onChange();
  }

  #showChips() {
    const palette = classPalette(this.classes.entries.length);
    const chips = this.classes.entries.map(({ name, on }, id) => {
      const button = wordButton(name, id);
      button.setAttribute("aria-pressed", on);
      const chip = document.createElement("span");
      chip.className = "chip";
      chip.style.background = cssColour(palette[id]);
      button.prepend(chip);
      return button;
    });
    this.#chips.replaceChildren(...chips);
  }

  #showMatches() {
    const wanted = foldName(this.#word.value);
    const words = wanted ? this.classes.known(this.#bank).filter((word) => foldName(word).includes(wanted)) : [];
    words.sort((left, right) => foldName(left).indexOf(wanted) - foldName(right).indexOf(wanted));
    this.#matches.replaceChildren(...words.slice(0, MAX_MATCHES).map((word) => wordButton(word, word)));
  }
}

function wordButton(name, value) {
  const button = document.createElement("button");
  button.type = "button";
  button.value = value;
  button.append(name);
  return button;
}
