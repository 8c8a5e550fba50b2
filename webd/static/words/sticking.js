/** When a log follows its end, and what to do to the scroll when its height changes. Pure. */

/** This close to the end counts as at the end. */
export const NEAR_PX = 24;

/** @typedef {{top: number, height: number, view: number}} Scroll   scrollTop, scrollHeight, clientHeight */

/** @param {Scroll} scroll */
export const atEnd = ({ top, height, view }) => height - top - view <= NEAR_PX;

/**
 * Where to scroll after the content changed its height.
 * While older rows are put on top, what the reader looked at keeps its place: it was `moved` that far. Else a log that
 * sticks goes to its end, and any other stays.
 * @param {Scroll & {sticks: boolean, moved: number | null}} change
 */
export function scrollAfter({ top, height, view, sticks, moved }) {
  if (moved !== null) return top + moved;
  return sticks ? Math.max(0, height - view) : top;
}
