/** The page's file fields. */

/**
 * @param {HTMLInputElement} input of type file
 * @param {(files: File[]) => unknown} take is given what the visitor chooses, also where it is the same file again
 */
export function onFilesChosen(input, take) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // else the same file again would be no change, and unheard of
    take(files);
  });
}
