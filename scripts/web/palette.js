/**
 * The colours of the classes: those of `class_palette` in modeling_lclipseg/visualization_lclipseg.py, one for one, so
 * that an overlay looks the same wherever it was made. tests/serving/test_web.py compares the two.
 */

const FIRST_COLOUR = [0, 102, 204];
const LEVELS = Array.from({ length: 16 }, (_, step) => 17 * step);

/** @type {{rgb: number[], perceived: number[]}[] | null} */
let candidates = null;

/**
 * Distinct colours: each is, of those left, the one farthest from all before it as the eye sees distance. A longer
 * palette begins with the colours of a shorter one.
 * @param {number} count from 1 to about 3,000
 * @returns {number[][]} RGB in 0..255, by class id
 */
export function classPalette(count) {
  candidates ??= candidateColours();
  if (!(count >= 1 && count <= candidates.length)) {
    throw new RangeError(`A palette has 1 to ${candidates.length} colours, but ${count} were asked for.`);
  }
  const fromFirst = candidates.map(({ rgb }) => -sum(rgb.map((value, axis) => Math.abs(value - FIRST_COLOUR[axis]))));
  const distance = new Float64Array(candidates.length).fill(Infinity);
  const chosen = [indexOfLargest(fromFirst)];
  while (chosen.length < count) {
    const last = candidates[chosen.at(-1)].perceived;
    candidates.forEach(({ perceived }, index) => {
      const squared = sum(perceived.map((value, axis) => (value - last[axis]) ** 2));
      distance[index] = Math.min(distance[index], squared);
    });
    chosen.push(indexOfLargest(distance));
  }
  return chosen.map((index) => candidates[index].rgb);
}

/** Colours on a grid, without greys, glaring, near-black and near-white ones: RGB, and the same in OKLab. */
function candidateColours() {
  const kept = [];
  for (const red of LEVELS) {
    for (const green of LEVELS) {
      for (const blue of LEVELS) {
        const rgb = [red, green, blue];
        const perceived = toOklab(rgb);
        const [lightness, a, b] = perceived;
        const chroma = Math.hypot(a, b);
        if (lightness > 0.4 && lightness < 0.92 && chroma > 0.06 && chroma < 0.22) kept.push({ rgb, perceived });
      }
    }
  }
  return kept;
}

/** Björn Ottosson's OKLab: Euclidean distance in it is about perceived distance. */
function toOklab(rgb) {
  const [red, green, blue] = rgb.map((value) => {
    const scaled = value / 255;
    return scaled <= 0.04045 ? scaled / 12.92 : ((scaled + 0.055) / 1.055) ** 2.4;
  });
  const long = Math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue);
  const medium = Math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue);
  const short = Math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue);
  return [
    0.2104542553 * long + 0.793617785 * medium - 0.0040720468 * short,
    1.9779984951 * long - 2.428592205 * medium + 0.4505937099 * short,
    0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
  ];
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/** The first of them, where several are largest. */
function indexOfLargest(values) {
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return best;
}
