/** Rows do not move under the pointer: whether a list is being pointed at or walked through with the keyboard. */
import { useEffect, useRef, useState } from "../html.js";

/** @import {RefObject} from "../vendor/preact.js" */

/** @returns {[RefObject<HTMLElement | null>, boolean]} */
export function useHeld() {
  /** @type {RefObject<HTMLElement | null>} */
  const list = useRef(null);
  const [held, setHeld] = useState(false);
  useEffect(() => {
    const root = list.current;
    if (!root) return undefined;
    const look = () => setHeld(root.matches(":hover") || root.querySelector(":focus-visible") !== null);
    const soon = () => requestAnimationFrame(look);
    const seen = ["pointerenter", "pointerleave", "focusin", "focusout"];
    for (const kind of seen) root.addEventListener(kind, soon);
    return () => seen.forEach((kind) => root.removeEventListener(kind, soon));
  }, []);
  return [list, held];
}
