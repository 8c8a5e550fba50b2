/** Charts as shapes: values become the path of a line, an area or bars in a field of 600 by 100. Pure. */

export const WIDTH = 600;
export const HEIGHT = 100;
/** Room above the highest value, so that its line is whole. */
const HEAD = 4;

/** What is unknown (null) is no point: the line has a hole there. @typedef {readonly (number | null)[]} Values */

/** @param {Values} values */
export const highest = (values) => Math.max(0, ...values.filter((value) => value !== null));

/** @param {number} n */
const short = (n) => String(Math.round(n * 10) / 10);

/**
 * @param {number} place
 * @param {number} count
 */
const middle = (place, count) => ((place + 0.5) * WIDTH) / count;

/**
 * @param {number} value
 * @param {number} most
 */
const level = (value, most) => HEIGHT - (most ? (value / most) * (HEIGHT - HEAD) : 0);

/**
 * A line through the middles of the steps, with holes where nothing is known.
 * @param {Values} values
 * @param {number} most     the value at the top
 */
export function linePath(values, most) {
  let path = "";
  let drawing = false;
  values.forEach((value, place) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = middle(place, values.length);
    const y = short(level(value, most));
    const next = values[place + 1] ?? null;
    if (!drawing && next === null) {
      const half = WIDTH / values.length / 2; // a point alone is as wide as its step
      path += `M${short(x - half)} ${y}H${short(x + half)}`;
    } else path += `${drawing ? "L" : "M"}${short(x)} ${y}`;
    drawing = true;
  });
  return path;
}

/**
 * One bar for each step that has something.
 * @param {Values} values
 * @param {number} most
 */
export function barPath(values, most) {
  const step = WIDTH / Math.max(1, values.length);
  const wide = short(Math.max(1, step - Math.min(2, step / 4)));
  return values
    .map((value, place) => {
      if (!value) return "";
      const tall = Math.max(2, HEIGHT - level(value, most));
      return `M${short(place * step)} ${short(HEIGHT - tall)}h${wide}v${short(tall)}h-${wide}z`;
    })
    .join("");
}
