/**
 * Time as the page shows it: webd's clock, one tick a second for everything that ages, and the reader's zone.
 */
import { computed, signal } from "../signals.js";

const DAY_MS = 86_400_000;
let skew_ms = 0;

/** @param {number} server_ms */
export function setServerTime(server_ms) {
  skew_ms = server_ms - Date.now();
}

export const serverNow = () => Date.now() + skew_ms;

const ticking = signal(serverNow());

/** webd's clock, moving once a second. */
export const now_ms = computed(() => ticking.value);

/** Changes when the day does, in the reader's zone or in UTC: what shows clock times hangs on it, not on every tick. */
export const day = signal("");

export function startClock() {
  const tick = () => {
    const ms = serverNow();
    ticking.value = ms;
    day.value = `${new Date(ms).toDateString()} ${Math.floor(ms / DAY_MS)}`;
    setTimeout(tick, 1_000 - (Date.now() % 1_000));
  };
  tick();
}

/** @typedef {"local" | "utc"} Zone */
const ZONE = "hive.zone";

/** @type {import("../vendor/signals-core.js").Signal<Zone>} */
export const zone = signal("local");

export function loadZone() {
  if (localStorage.getItem(ZONE) === "utc") zone.value = "utc";
}

export function toggleZone() {
  zone.value = zone.value === "utc" ? "local" : "utc";
  localStorage.setItem(ZONE, zone.value);
}
