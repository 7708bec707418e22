/** Label maps: class ids, one byte a pixel. */

export const NO_CLASS = 255; // the id of a pixel that is none of the classes, as Python's masks have it

/**
 * The network numbers the classes that it was given; the page numbers all that it lists.
 * @param {Uint8Array} indices what the network says
 * @param {number[]} chosen class id, in [0, 255], by network index
 * @returns {Uint8Array} class ids
 */
export function toClassIds(indices, chosen) {
  const table = Uint8Array.from(chosen);
  return indices.map((index) => table[index]);
}

/**
 * The label map without what looks like none of the classes.
 * @param {Uint8Array} ids
 * @param {Float32Array} scores the logit of that class, by pixel
 * @param {number | null} least pixels that score less get `NO_CLASS`; null: all pixels count
 * @returns {Uint8Array}
 */
export function aboveLeast(ids, scores, least) {
  return least === null ? ids : ids.map((id, pixel) => (scores[pixel] >= least ? id : NO_CLASS));
}

/**
 * How much of an image each class covers.
 * @param {Uint8Array} ids
 * @returns {{id: number, share: number}[]} the classes in it, the largest first, then `NO_CLASS`; shares in (0, 1]
 */
export function classShares(ids) {
  const counts = new Uint32Array(256);
  for (const id of ids) counts[id]++;
  const shares = [];
  counts.forEach((count, id) => {
    if (count) shares.push({ id, share: count / ids.length });
  });
  return shares.sort((left, right) => (left.id === NO_CLASS) - (right.id === NO_CLASS) || right.share - left.share);
}

/** @returns {string} `12.3 %`, as the Python commands write it */
export function formatShare(share) {
  if (share === 0) return "0 %";
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}
