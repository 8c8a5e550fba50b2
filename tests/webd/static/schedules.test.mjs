/** Schedules, events, sizes and charts: what the newer panes say and draw. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { size } from "../../../webd/static/words/amounts.js";
import { barPath, highest, linePath } from "../../../webd/static/words/charts.js";
import { progress } from "../../../webd/static/words/delivery.js";
import { eventMark } from "../../../webd/static/words/events.js";
import { cronWords, dueWords, everyWords, outcomeWords, scheduleWords, secondsOf } from "../../../webd/static/words/schedules.js";
import { until } from "../../../webd/static/words/times.js";

const NOON = Date.UTC(2026, 10, 20, 12, 0, 0);

test("intervals in words", () => {
  assert.deepEqual(
    [60, 90, 300, 3_600, 5_400, 86_400, 172_800].map(everyWords),
    ["every minute", "every 90 s", "every 5 min", "every hour", "every 1 h 30 min", "every day", "every 2 days"],
  );
});

test("the usual cron expressions in words, others as they are", () => {
  const said = {
    "0 8 * * 1-5": "weekdays at 08:00",
    "*/5 * * * *": "every 5 minutes",
    "0 * * * *": "every hour",
    "7 * * * *": "every hour at :07",
    "30 23 * * *": "every day at 23:30",
    "0 9 1 * *": "day 1 of the month at 09:00",
    "0 9 * * 7": "sundays at 09:00",
    "0 9 * * 0,6": "weekends at 09:00",
    "0 9 1 * 1": "0 9 1 * 1",
    "0 8-18 * * *": "0 8-18 * * *",
    "0 8 * 1 *": "0 8 * 1 *",
    "@daily": "@daily",
    "0 8 * * MON": "mondays at 08:00",
    "0 9 * * mon-fri": "weekdays at 09:00",
    "0 9 * * moo": "0 9 * * moo",
  };
  for (const [expression, words] of Object.entries(said)) assert.equal(cronWords(expression), words);
});

test("a zone is said when it is not the reader's", () => {
  const cron = { kind: "cron", expression: "0 8 * * *", zone: "Europe/Berlin" };
  assert.equal(scheduleWords(cron, "Europe/Berlin"), "every day at 08:00");
  assert.equal(scheduleWords(cron, "UTC"), "every day at 08:00, Europe/Berlin");
  assert.equal(scheduleWords({ kind: "once", at_ms: NOON }, "UTC"), "once");
});

test("when something is due", () => {
  const said = (ms) => dueWords(NOON + ms, NOON, "utc");
  assert.deepEqual([-1, 0, 1, 59_000, 3_540_000, 3_600_000, 21_540_000].map(said), ["due", "due", "in 1s", "in 59s", "in 59m", "in 1h", "in 5h 59m"]);
  assert.equal(said(43_200_000 * 2), "21 Nov 12:00");
  assert.equal(until(NOON + 5_000, NOON, "utc"), "12:00");
  assert.equal(until(NOON + 86_400_000, NOON, "utc"), "21 Nov 12:00");
});

test("what became of occurrences", () => {
  const went = (attempted, delivered, failed, skipped) => outcomeWords({ attempted, delivered, failed, skipped });
  assert.equal(went(0, 0, 0, 0), "never fired");
  assert.equal(went(1, 0, 0, 0), "on its way");
  assert.equal(went(5, 2, 1, 1), "2 ✓ · 1 failed · 1 skipped");
});

test("times as people write them", () => {
  assert.deepEqual(["90", "90 s", "15min", "2h", "1d 6h", "1 h 30 m"].map(secondsOf), [5_400, 90, 900, 7_200, 108_000, 5_400]);
  for (const text of ["", "soon", "2 hours", "-5", "1.5h", "h"]) assert.ok(Number.isNaN(secondsOf(text)), text);
});

test("every event has a mark, one of a newer hive its name", () => {
  assert.equal(eventMark(null), null);
  assert.deepEqual(eventMark("container_crash"), { glyph: "✕", word: "crash", tone: "bad" });
  assert.equal(eventMark("moon_landing").word, "moon landing");
});

test("held is a state of its own, the operator's too", () => {
  assert.equal(progress({ recipient: "iris", state: "held" }).word, "held");
  assert.equal(progress({ recipient: "operator", state: "held" }).word, "held");
});

test("sizes", () => {
  assert.deepEqual([0, 1_023, 1_024, 4_300_000, 83_065_131_008, 3e15].map(size), ["0 B", "1023 B", "1.0 KiB", "4.1 MiB", "77 GiB", "2728 TiB"]);
});

test("a line has holes where nothing is known, and a point alone is as wide as its step", () => {
  assert.equal(highest([null, 3, 1]), 3);
  assert.equal(highest([null]), 0);
  assert.equal(linePath([0, 4, null, 4], 4), "M75 100L225 4M450 4H600");
  assert.equal(linePath([null, null], 4), "");
  assert.equal(linePath([0, 0], 0), "M150 100L450 100");
});

test("bars stand on the ground, and the least of them is seen", () => {
  assert.equal(barPath([0, 2, null], 4), "M200 52h198v48h-198z");
  assert.match(barPath([1, 1_000_000], 1_000_000), /^M0 98h298v2h-298z/);
});
