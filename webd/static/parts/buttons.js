/**
 * Buttons for deeds: they spin until the stream has shown the effect; those that end something want a second click.
 */
import { html, useEffect, useRef, useState } from "../html.js";
import { underWay } from "../act/deeds.js";
import { judged } from "../live/store.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/** An armed button disarms by itself after this; the bar in it drains as long. */
export const ARMED_MS = 4_000;
/** The second click of a careless double click does not count. */
const CARELESS_MS = 300;

/**
 * @typedef {object} DeedProps
 * @property {string} deed                name of the deed: its buttons spin together
 * @property {() => unknown} run
 * @property {string} [tone]              go, stop, quiet
 * @property {string} [label]             for readers of icon-only buttons
 * @property {string} [doing]             shown while under way
 * @property {boolean} [disabled]
 * @property {string} [role]
 * @property {string} [letter]            the key that presses it while its card is focused
 * @property {ComponentChildren} [children]
 */

/** @param {DeedProps} props */
export function Deed({ deed, run, tone = "", label, doing, disabled = false, role, letter, children }) {
  const busy = underWay.value.has(deed);
  const off = disabled || !judged.value.usable;
  return html`
    <button class=${`btn ${tone}`} type="button" role=${role} aria-label=${label} aria-busy=${busy ? "true" : undefined}
      data-letter=${letter} disabled=${off && !busy} onClick=${() => !busy && run()}>
      ${busy && doing ? doing : children}
    </button>`;
}

/**
 * Two clicks: the first arms, the second does. Looking away, escape or time disarm.
 * @param {DeedProps & {armed?: string, armer?: (arm: () => boolean) => void}} props
 *   `armer` is given a function that is like a click, for a key that does the same
 */
export function Armed({
  deed,
  run,
  tone = "stop",
  label,
  doing,
  disabled = false,
  role,
  armed = "sure? click again",
  armer,
  children,
}) {
  const [armed_at, setArmed] = useState(0);
  const timer = useRef(0);
  const disarm = () => {
    clearTimeout(timer.current);
    setArmed(0);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  const busy = underWay.value.has(deed);
  const off = disabled || !judged.value.usable;
  const click = () => {
    if (busy || off) return false;
    if (!armed_at) {
      setArmed(performance.now());
      timer.current = window.setTimeout(() => setArmed(0), ARMED_MS);
    } else if (performance.now() - armed_at > CARELESS_MS) {
      disarm();
      run();
    }
    return true;
  };
  useEffect(() => {
    armer?.(click); // its answer is not passed on: an effect's answer is called as its end
  });
  const escape = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !armed_at) return;
    event.stopPropagation();
    disarm();
  };
  const state = armed_at ? "armed" : tone;
  return html`
    <button class=${`btn ${state}`} type="button" role=${role} aria-label=${armed_at ? undefined : label}
      aria-busy=${busy ? "true" : undefined}
      disabled=${off && !busy} onClick=${click} onBlur=${disarm} onKeyDown=${escape}>
      ${busy && doing ? doing : armed_at ? armed : children}
    </button>`;
}
