/** Where the reader is, as the address says it: the filter of messages or of a journal, an open thread, the pane. */
import { signal } from "../signals.js";

/** @import {Signal} from "../vendor/signals-core.js" */

/** The filter's text: `?q=`. */
export const filterText = signal("");
/** The open thread: `?thread=`. @type {Signal<number | null>} */
export const thread = signal(null);
/** The pane in the address: `#matrix`. */
export const pane = signal("");

function read() {
  const query = new URLSearchParams(location.search);
  filterText.value = query.get("q") ?? "";
  const asked = Number(query.get("thread"));
  thread.value = Number.isSafeInteger(asked) && asked > 0 ? asked : null;
  pane.value = location.hash.slice(1);
}

/** @param {Record<string, string>} query */
function address(query) {
  const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const text = kept.toString();
  return `${location.pathname}${text ? `?${text}` : ""}${location.pathname === "/" ? "#matrix" : ""}`;
}

/** @param {string} text */
export function setFilter(text) {
  filterText.value = text;
  history.replaceState(null, "", address({ q: text, thread: thread.value ? String(thread.value) : "" }));
}

/** @param {number | null} id */
export function openThread(id) {
  thread.value = id;
  history.pushState(null, "", address({ q: filterText.value, thread: id ? String(id) : "" }));
}

export function followAddress() {
  read();
  addEventListener("popstate", read);
  addEventListener("hashchange", read);
}
