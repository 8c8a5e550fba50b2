/** What holds agents back, in words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { destination, hitWords, limitLines, whyWords, windowWords } from "../../../webd/static/words/limits.js";

const NOON = Date.UTC(2026, 10, 20, 12, 0, 0);
const nothing = { limit: null, remaining: null, used_permille: null, resets_ms: null };
const words = (/** @type {object} */ window) => windowWords({ name: "tokens", ...nothing, ...window }, NOON, "utc");

test("a window says what of it is left, and when it begins anew", () => {
  assert.equal(words({}), "tokens");
  assert.equal(words({ limit: 80_000, remaining: 1_500 }), "tokens: 1 500 of 80 000");
  assert.equal(words({ remaining: 0 }), "tokens: 0 left");
  assert.equal(words({ used_permille: 714 }), "tokens: 71 % used");
  assert.equal(words({ limit: 5, remaining: 0, used_permille: 1_000, resets_ms: NOON + 3_600_000 }), "tokens: 0 of 5, anew 13:00");
  assert.equal(words({ resets_ms: NOON + 86_400_000 }), "tokens: anew 21 Nov 12:00");
  assert.equal(words({ resets_ms: NOON }), "tokens", "one that is over says nothing");
});

test("a refusal says where to and why", () => {
  const refusal = { id: 1, agent: "iris", why: "volume", host: "example.org", port: 8443, times: 1, first_ms: 0, at_ms: 0 };
  assert.equal(destination(/** @type {any} */ (refusal)), "example.org:8443");
  assert.equal(destination(/** @type {any} */ ({ ...refusal, host: "", port: 0 })), "many places");
  assert.equal(whyWords("leads_inside"), "leads inside");
  assert.equal(whyWords(/** @type {any} */ ("of_a_newer_hive")), "of a newer hive");
});

test("limits in words", () => {
  const hit = { agent: "iris", times: 1, first_ms: 0, at_ms: 0, detail: "" };
  assert.equal(hitWords({ ...hit, resource: "memory" }), "ran out of memory");
  assert.equal(hitWords(/** @type {any} */ ({ ...hit, resource: "ports" })), "met its limit of ports");
  const limits = { memory_mib_max: 4_096, tasks_max: 2_000, cpu_percent_max: 150, files_max: null, disk_mib_max: 16_384 };
  assert.deepEqual(limitLines(limits), [
    ["memory", "4.0 GiB", "memory"],
    ["processes", "2 000", "tasks"],
    ["cpu", "150 %", ""],
    ["open files", "as the host has", ""],
    ["disk", "16 GiB", "disk"],
  ]);
});
