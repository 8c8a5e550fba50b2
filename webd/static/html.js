/** Templates: htm bound to preact, with the hooks and signals that the parts use. */
import { h, render } from "./vendor/preact.js";
import { useMemo } from "./vendor/hooks.js";
import "./vendor/signals.js"; // teaches preact to draw a component again when a signal it read changes
import htm from "./vendor/htm.js";
import { computed } from "./signals.js";

/** @import {VNode} from "./vendor/preact.js" */
/** @import {ReadonlySignal} from "./vendor/signals-core.js" */

export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export { batch, computed, effect, signal, untracked } from "./signals.js";
export { render };

/**
 * A template becomes nodes; text stays text, whatever is in it.
 * @type {(strings: TemplateStringsArray, ...values: any[]) => VNode}
 */
export const html = /** @type {any} */ (htm.bind(h));

/**
 * A handler that hands over what stands in the field it was fired by.
 * @param {(value: string) => void} take
 * @returns {(event: Event) => void}
 */
export const valueTo = (take) => (event) => {
  const field = event.target;
  const typed = field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement || field instanceof HTMLSelectElement;
  if (typed) take(field.value);
};

/**
 * A value made from signals and from `inputs`; it is made anew when either changes, without drawing the component again.
 * @template T
 * @param {() => T} make
 * @param {readonly unknown[]} inputs
 * @returns {ReadonlySignal<T>}
 */
export const useDerived = (make, inputs) => useMemo(() => computed(make), inputs);
