/** Label maps: class ids, one byte a pixel. */

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
 * How much of an image each class covers.
 * @param {Uint8Array} ids
 * @returns {{id: number, share: number}[]} the classes in it, the largest first; shares in (0, 1]
 */
export function classShares(ids) {
  const counts = new Uint32Array(256);
  for (const id of ids) counts[id]++;
  const shares = [];
  counts.forEach((count, id) => {
    if (count) shares.push({ id, share: count / ids.length });
  });
  return shares.sort((left, right) => right.share - left.share);
}

/** @returns {string} `12.3 %`, as the Python commands write it */
export function formatShare(share) {
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}
