/**
 * Single keys and two-key sequences. They are off while somebody types, and can be switched off for good.
 * A page adds its own with `keys`; what is added here is also what the `?` sheet lists.
 */
import { signal } from "../signals.js";

/** @import {Signal} from "../vendor/signals-core.js" */

const SEQUENCE_MS = 1_200;
const OFF = "hive.keys";

/** @typedef {{keys: string, does: string, run: (event: KeyboardEvent) => void}} Binding */

/** @type {Signal<Binding[]>} */
export const bindings = signal([]);
export const singleKeys = signal(true);

/** @param {Binding[]} added */
export function keys(added) {
  bindings.value = [...bindings.value.filter((known) => !added.some((next) => next.keys === known.keys)), ...added];
}

export function toggleSingleKeys() {
  singleKeys.value = !singleKeys.value;
  localStorage.setItem(OFF, singleKeys.value ? "on" : "off");
}

/** @param {EventTarget | null} target */
const types = (target) =>
  target instanceof HTMLElement && (target.matches("input, textarea, select") || target.isContentEditable);

let prefix = "";
let prefixUntil = 0;

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.defaultPrevented || event.isComposing) return;
  const bound = bindings.peek();
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    bound.find((binding) => binding.keys === "ctrl k")?.run(event);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inDialog = event.target instanceof Element && event.target.closest("dialog");
  if (event.key === "Escape" && !inDialog) {
    if (types(event.target) && !(event.target instanceof HTMLElement && event.target.matches("[data-esc]"))) {
      /** @type {HTMLElement} */ (event.target).blur();
      return;
    }
    bound.find((binding) => binding.keys === "esc")?.run(event);
    return;
  }
  if (!singleKeys.peek() || types(event.target) || inDialog) return;
  const sequence = prefix && performance.now() < prefixUntil ? `${prefix} ${event.key}` : event.key;
  prefix = "";
  const found = bound.find((binding) => binding.keys === sequence);
  if (found) {
    event.preventDefault();
    found.run(event);
  } else if (bound.some((binding) => binding.keys.startsWith(`${event.key} `))) {
    prefix = event.key;
    prefixUntil = performance.now() + SEQUENCE_MS;
  }
}

export function startKeyboard() {
  singleKeys.value = localStorage.getItem(OFF) !== "off";
  addEventListener("keydown", pressed);
}

/**
 * Moves the focus among the rows of the page (`[data-step]`), down or up.
 * @param {1 | -1} by
 */
export function step(by) {
  const rows = [...document.querySelectorAll("[data-step]")].filter(
    (row) => row instanceof HTMLElement && row.checkVisibility(),
  );
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  const row = /** @type {HTMLElement} */ (rows[next]);
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

/** Presses the button of the focused card that a letter stands for. @param {string} letter */
export function press(letter) {
  const button = document.activeElement?.closest(".call")?.querySelector(`[data-letter="${letter}"]`);
  if (button instanceof HTMLElement) button.click();
}
