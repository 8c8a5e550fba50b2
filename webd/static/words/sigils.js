/**
 * The drawing that stands for an agent: eight names have one of their own, every other name gets one made from its
 * letters, the same on every machine. Pure: shapes as data, in a field of 24 by 24.
 */

/**
 * @typedef {object} Shape
 * @property {string} [d]            a path, or
 * @property {number} [cx]           a circle,
 * @property {number} [cy]
 * @property {number} [r]
 * @property {number} [rx]           or an ellipse
 * @property {number} [ry]
 * @property {boolean} [filled]
 */

/** @type {Readonly<Record<string, Shape[]>>} */
const NAMED = {
  hm1nd: [
    { d: "M12 2.5 20.2 7.2v9.6L12 21.5 3.8 16.8V7.2z" },
    { cx: 12, cy: 12, r: 2.3 },
    { d: "M12 9.7V2.5M10 13.2l-6.2 3.6M14 13.2l6.2 3.6" },
  ],
  iris: [
    { d: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z" },
    { cx: 12, cy: 12, r: 3.4 },
    { cx: 12, cy: 12, r: 0.9, filled: true },
  ],
  damocles: [{ d: "M12 1.5v2.8M12 4.3v4M7.4 8.3h9.2M10.2 8.3v8.8l1.8 4.4 1.8-4.4V8.3M12 11v5" }],
  atlas: [
    { cx: 12, cy: 9, r: 6.6 },
    { cx: 12, cy: 9, rx: 2.7, ry: 6.6 },
    { d: "M5.4 9h13.2M5 21.5l3.4-6.6M19 21.5l-3.4-6.6M8.6 21.5h6.8" },
  ],
  argus: [
    { cx: 12, cy: 12, r: 2.7 },
    { cx: 12, cy: 4.2, r: 1.6 },
    { cx: 18.8, cy: 8.1, r: 1.6 },
    { cx: 18.8, cy: 15.9, r: 1.6 },
    { cx: 12, cy: 19.8, r: 1.6 },
    { cx: 5.2, cy: 15.9, r: 1.6 },
    { cx: 5.2, cy: 8.1, r: 1.6 },
  ],
  triage: [
    {
      d: "M3 12h6M9 12c4.5 0 4-6.5 11-6.5M9 12h11M9 12c4.5 0 4 6.5 11 6.5M17.6 3.2 20.4 5.5l-2.8 2.3M17.6 9.7l2.8 2.3-2.8 2.3M17.6 16.2l2.8 2.3-2.8 2.3",
    },
  ],
  vesper: [{ d: "M14.6 3.6A8.7 8.7 0 1 0 20.4 15 7.2 7.2 0 0 1 14.6 3.6z" }, { d: "M19 4.4v4.2M16.9 6.5h4.2" }],
  moss: [{ d: "M6.5 18.2C4 9.5 11 4.6 20.5 4c.4 9.3-4 15.5-12 15" }, { d: "M3.8 21.5C6 15.8 9 12 14.5 9.5" }],
  operator: [{ d: "M12 3.2 20 7.8v8.4L12 20.8 4 16.2V7.8z" }, { d: "M9 10.5 12 8l3 2.5M12 8v8M9.5 16h5" }],
  system: [{ d: "M4 6.5h16v11H4zM7.5 10l2.5 2-2.5 2M12.5 14.5h4" }],
};

const MIDDLE = 12;

/** @type {Map<string, Shape[]>} */
const known = new Map(Object.entries(NAMED));

/** @param {string} name */
export function sigil(name) {
  const shapes = known.get(name) ?? drawn(name);
  known.set(name, shapes);
  return shapes;
}

/** Numbers from a name, always the same ones. @param {string} name */
function numbers(name) {
  let state = 2166136261;
  for (const letter of name) state = Math.imul(state ^ letter.charCodeAt(0), 16777619);
  /** @param {number} below */
  return (below) => {
    state = Math.imul(state ^ (state >>> 15), 2246822519);
    state = Math.imul(state ^ (state >>> 13), 3266489917);
    state ^= state >>> 16;
    return (state >>> 0) % below;
  };
}

/**
 * @param {number} radius
 * @param {number} angle   in turns, 0 is up
 */
function point(radius, angle) {
  const x = MIDDLE + radius * Math.sin(angle * 2 * Math.PI);
  const y = MIDDLE - radius * Math.cos(angle * 2 * Math.PI);
  return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
}

const at = (/** @type {{x: number, y: number}} */ { x, y }) => `${x} ${y}`;

/**
 * A closed line through `folds` points, every `skip`-th joined.
 * @param {number} folds
 * @param {number} radius
 * @param {number} tilt
 * @param {number} [skip]
 */
function star(folds, radius, tilt, skip = 1) {
  const points = Array.from({ length: folds }, (_, i) => at(point(radius, tilt + (i * skip) / folds)));
  return `M${points.join("L")}z`;
}

/**
 * Strokes from one radius to another, one for each fold.
 * @param {number} folds
 * @param {number} from
 * @param {number} to
 * @param {number} tilt
 */
const spokes = (folds, from, to, tilt) =>
  Array.from(
    { length: folds },
    (_, i) => `M${at(point(from, tilt + i / folds))}L${at(point(to, tilt + i / folds))}`,
  ).join("");

/**
 * Petals that leave the middle and come back.
 * @param {number} folds
 * @param {number} reach
 * @param {number} tilt
 */
const petals = (folds, reach, tilt) =>
  Array.from({ length: folds }, (_, i) => {
    const turn = tilt + i / folds;
    const side = 0.42 / folds;
    const [left, tip, right] = [point(reach * 0.72, turn - side), point(reach, turn), point(reach * 0.72, turn + side)];
    return `M${MIDDLE} ${MIDDLE}Q${at(left)} ${at(tip)}Q${at(right)} ${MIDDLE} ${MIDDLE}`;
  }).join("");

/**
 * @param {string} name
 * @returns {Shape[]}
 */
function drawn(name) {
  const pick = numbers(name);
  const folds = 3 + pick(4);
  const tilt = pick(2) / (2 * folds);
  const half = tilt + 1 / (2 * folds);
  return [...outline(pick(5), folds, tilt, half), ...inside(pick(6), folds, tilt, half), ...heart(pick(3))];
}

/**
 * @param {number} kind
 * @param {number} folds
 * @param {number} tilt
 * @param {number} half
 * @returns {Shape[]}
 */
function outline(kind, folds, tilt, half) {
  switch (kind) {
    case 0:
      return [{ d: star(folds, 9.6, tilt) }];
    case 1:
      return [{ cx: MIDDLE, cy: MIDDLE, r: 9 }];
    case 2:
      return Array.from({ length: folds }, (_, i) => point(8.6, tilt + i / folds)).map(({ x, y }) => ({
        cx: x,
        cy: y,
        r: 1.5,
      }));
    case 3:
      return [{ d: star(folds, 9.6, tilt) }, { d: spokes(folds, 5.8, 7.6, half) }];
    default:
      return [{ cx: MIDDLE, cy: MIDDLE, r: 7.4 }, { d: spokes(folds, 7.4, 10.2, tilt) }];
  }
}

/**
 * @param {number} kind
 * @param {number} folds
 * @param {number} tilt
 * @param {number} half
 * @returns {Shape[]}
 */
function inside(kind, folds, tilt, half) {
  switch (kind) {
    case 0:
      return [{ d: spokes(folds, 2.6, 6.4, tilt) }];
    case 1:
      return [{ d: star(folds, 5.4, half) }];
    case 2:
      return [{ d: petals(folds, 6.4, tilt) }];
    case 3:
      return [{ d: spokes(folds, 2.6, 5.6, half) }, { cx: MIDDLE, cy: MIDDLE, r: 5.6 }];
    case 4:
      return [{ d: folds === 5 ? star(5, 6.2, tilt, 2) : star(3, 6, tilt) }];
    default:
      return [{ d: petals(folds, 6.2, half) }];
  }
}

/**
 * @param {number} kind
 * @returns {Shape[]}
 */
function heart(kind) {
  if (kind === 0) return [{ cx: MIDDLE, cy: MIDDLE, r: 1.1, filled: true }];
  return kind === 1 ? [{ cx: MIDDLE, cy: MIDDLE, r: 2 }] : [];
}
