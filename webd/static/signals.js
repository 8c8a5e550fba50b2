/** Signals, for what holds state and draws nothing: it need not load preact. */
export { batch, computed, effect, signal, untracked } from "./vendor/signals-core.js";
