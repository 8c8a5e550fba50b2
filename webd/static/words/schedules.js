/** Schedules in words: when a reminder fires, and what became of it. Pure. */
import { clock } from "./times.js";

/** @import {Reminder, Schedule} from "../types/wire" */
/** @import {Zone} from "./times.js" */

const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;
const NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAYS = ["sundays", "mondays", "tuesdays", "wednesdays", "thursdays", "fridays", "saturdays", "sundays"];

/**
 * `every minute`, `every 90 s`, `every 1 h 30 min`, `every 2 days`.
 * @param {number} every_s
 */
export function everyWords(every_s) {
  if (every_s === MINUTE_S) return "every minute";
  if (every_s === HOUR_S) return "every hour";
  if (every_s === DAY_S) return "every day";
  if (every_s % DAY_S === 0) return `every ${every_s / DAY_S} days`;
  if (every_s % MINUTE_S !== 0) return `every ${every_s} s`;
  const hours = Math.floor(every_s / HOUR_S);
  const minutes = (every_s % HOUR_S) / MINUTE_S;
  return `every ${[hours && `${hours} h`, minutes && `${minutes} min`].filter(Boolean).join(" ")}`;
}

/**
 * The usual cron expressions in words; any other as it is written.
 * @param {string} expression
 */
export function cronWords(expression) {
  const [minute, hour, day, month, named, ...rest] = expression.trim().split(/\s+/);
  if (rest.length || named === undefined || month !== "*") return expression;
  const weekday = named.toLowerCase().replace(/[a-z]{3}/g, (name) => String(NAMES.indexOf(name)));
  const always = day === "*" && weekday === "*";
  const step = /^\*\/([1-9]\d*)$/.exec(minute)?.[1];
  if (always && hour === "*" && step) return `every ${step} minutes`;
  if (always && hour === "*" && minute === "*") return "every minute";
  if (!/^\d{1,2}$/.test(minute)) return expression;
  if (always && hour === "*") return minute === "0" ? "every hour" : `every hour at :${minute.padStart(2, "0")}`;
  if (!/^\d{1,2}$/.test(hour)) return expression;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (always) return `every day at ${time}`;
  if (weekday === "*" && /^\d{1,2}$/.test(day)) return `day ${day} of the month at ${time}`;
  if (day !== "*") return expression;
  if (weekday === "1-5") return `weekdays at ${time}`;
  if (weekday === "0,6" || weekday === "6,0") return `weekends at ${time}`;
  return /^[0-7]$/.test(weekday) ? `${DAYS[Number(weekday)]} at ${time}` : expression;
}

/**
 * @param {Schedule} schedule
 * @param {string} here      the reader's own time zone, which need not be said
 */
export function scheduleWords(schedule, here) {
  if (schedule.kind === "once") return "once";
  if (schedule.kind === "every") return everyWords(schedule.every_s);
  const words = cronWords(schedule.expression);
  return schedule.zone === here ? words : `${words}, ${schedule.zone}`;
}

/**
 * `in 58m`, `in 3h`; on another day its time: `22 Nov 08:00`; what is late is `due`.
 * @param {number} ms
 * @param {number} now_ms
 * @param {Zone} zone
 */
export function dueWords(ms, now_ms, zone) {
  const left_s = Math.ceil((ms - now_ms) / 1_000);
  if (left_s <= 0) return "due";
  if (left_s < MINUTE_S) return `in ${left_s}s`;
  if (left_s < HOUR_S) return `in ${Math.floor(left_s / MINUTE_S)}m`;
  if (left_s < 12 * HOUR_S) {
    const minutes = Math.floor((left_s % HOUR_S) / MINUTE_S);
    return `in ${Math.floor(left_s / HOUR_S)}h${minutes ? ` ${minutes}m` : ""}`;
  }
  return clock(ms, now_ms, zone);
}

/**
 * What became of its occurrences: `12 ✓ · 1 failed · 2 skipped`.
 * @param {Reminder} reminder
 */
export function outcomeWords({ attempted, delivered, failed, skipped }) {
  const said = [
    delivered && `${delivered} ✓`,
    failed && `${failed} failed`,
    skipped && `${skipped} skipped`,
  ].filter(Boolean);
  if (said.length) return said.join(" · ");
  return attempted ? "on its way" : "never fired";
}

const UNITS_S = { s: 1, min: MINUTE_S, h: HOUR_S, d: DAY_S };

/**
 * `90`, `90 s`, `15 min`, `2h`, `1d 6h` in seconds; a bare number is minutes. NaN for anything else.
 * @param {string} text
 */
export function secondsOf(text) {
  const words = text.trim().toLowerCase();
  if (/^\d+$/.test(words)) return Number(words) * MINUTE_S;
  if (!/^(\d+\s*(s|min|m|h|d)\s*)+$/.test(words)) return Number.NaN;
  let sum_s = 0;
  for (const [, amount, unit] of words.matchAll(/(\d+)\s*(s|min|m|h|d)/g)) {
    sum_s += Number(amount) * UNITS_S[/** @type {keyof typeof UNITS_S} */ (unit === "m" ? "min" : unit)];
  }
  return sum_s;
}
