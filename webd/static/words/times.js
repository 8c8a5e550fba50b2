/** Times in words: ages, clock times, and the long form that stands on hover. Pure; zone and "now" come in. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The reader's own zone, by its name. */
export const ZONE_NAME = Intl.DateTimeFormat().resolvedOptions().timeZone;

const two = (/** @type {number} */ n) => String(n).padStart(2, "0");

/** @typedef {"local" | "utc"} Zone */

/**
 * @param {number} ms
 * @param {Zone} zone
 */
function parts(ms, zone) {
  const d = new Date(ms);
  return zone === "utc"
    ? {
        y: d.getUTCFullYear(),
        mo: d.getUTCMonth(),
        d: d.getUTCDate(),
        h: d.getUTCHours(),
        mi: d.getUTCMinutes(),
        s: d.getUTCSeconds(),
      }
    : { y: d.getFullYear(), mo: d.getMonth(), d: d.getDate(), h: d.getHours(), mi: d.getMinutes(), s: d.getSeconds() };
}

/**
 * `14:02:27`; on another day than now `20 Nov 14:02`; in another year `20 Nov 2025`.
 * @param {number} ms
 * @param {number} now_ms
 * @param {Zone} zone
 */
export function clock(ms, now_ms, zone) {
  const t = parts(ms, zone);
  const n = parts(now_ms, zone);
  if (t.y !== n.y) return `${t.d} ${MONTHS[t.mo]} ${t.y}`;
  if (t.mo !== n.mo || t.d !== n.d) return `${t.d} ${MONTHS[t.mo]} ${two(t.h)}:${two(t.mi)}`;
  return `${two(t.h)}:${two(t.mi)}:${two(t.s)}`;
}

/**
 * `14:02:27`, whatever the day.
 * @param {number} ms
 * @param {Zone} zone
 */
export function timeOfDay(ms, zone) {
  const t = parts(ms, zone);
  return `${two(t.h)}:${two(t.mi)}:${two(t.s)}`;
}

/**
 * `15:20`; on another day than now `22 Nov 15:20`: when something is said to end.
 * @param {number} ms
 * @param {number} now_ms
 * @param {Zone} zone
 */
export function until(ms, now_ms, zone) {
  const t = parts(ms, zone);
  const n = parts(now_ms, zone);
  const time = `${two(t.h)}:${two(t.mi)}`;
  return t.mo === n.mo && t.d === n.d ? time : `${t.d} ${MONTHS[t.mo]} ${time}`;
}

/**
 * `2026-11-20 14:02:27 UTC+1 (Europe/Berlin)`: what a time is, without doubt.
 * @param {number} ms
 * @param {Zone} zone
 */
export function absolute(ms, zone) {
  const t = parts(ms, zone);
  const stamp = `${t.y}-${two(t.mo + 1)}-${two(t.d)} ${two(t.h)}:${two(t.mi)}:${two(t.s)}`;
  if (zone === "utc") return `${stamp} UTC`;
  const east_min = -new Date(ms).getTimezoneOffset();
  const sign = east_min < 0 ? "−" : "+";
  const hours = Math.floor(Math.abs(east_min) / 60);
  const rest = Math.abs(east_min) % 60;
  return `${stamp} UTC${east_min ? `${sign}${hours}${rest ? `:${two(rest)}` : ""}` : ""} (${ZONE_NAME})`;
}

/**
 * `12s`, `6m`, `3h`, `2d`: how long something has been so.
 * @param {number} ms
 */
export function age(ms) {
  if (ms < MINUTE_MS) return `${Math.max(0, Math.floor(ms / SECOND_MS))}s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)}m`;
  if (ms < DAY_MS) return `${Math.floor(ms / HOUR_MS)}h`;
  return `${Math.floor(ms / DAY_MS)}d`;
}

/**
 * `0:42`, `1:17`, `1:02:09`: a running timer.
 * @param {number} ms
 */
export function timer(ms) {
  const s = Math.max(0, Math.floor(ms / SECOND_MS));
  const h = Math.floor(s / 3600);
  const mi = Math.floor(s / 60) % 60;
  return h ? `${h}:${two(mi)}:${two(s % 60)}` : `${mi}:${two(s % 60)}`;
}

/**
 * `4m 12s`, `3h 05m`, `2d 4h`: how long somebody has been waiting.
 * @param {number} ms
 */
export function wait(ms) {
  const s = Math.max(0, Math.floor(ms / SECOND_MS));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86_400)}d ${Math.floor(s / 3600) % 24}h`;
}

/**
 * `40ms`, `2.1s`, `34s`, `2m 05s`: how long something took.
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 100) return `${Math.max(0, Math.round(ms))}ms`;
  if (ms < 10 * SECOND_MS) return `${(ms / SECOND_MS).toFixed(1)}s`;
  return wait(ms);
}
