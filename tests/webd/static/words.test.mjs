/** Words: times, amounts, names, filters, progress. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { count, money, short, usage } from "../../../webd/static/words/amounts.js";
import { open, overall, progress } from "../../../webd/static/words/delivery.js";
import { highlighted, matches, parseFilter } from "../../../webd/static/words/filter.js";
import { fit, marked } from "../../../webd/static/words/fuzzy.js";
import { modelOrdered, nameProblem, proseAndCode, toolName } from "../../../webd/static/words/names.js";
import { sigil } from "../../../webd/static/words/sigils.js";
import { atEnd, scrollAfter } from "../../../webd/static/words/sticking.js";
import { absolute, age, clock, duration, timer, wait } from "../../../webd/static/words/times.js";

const NOON = Date.UTC(2026, 10, 20, 12, 0, 0);

test("ages, timers, waits and durations", () => {
  assert.deepEqual([-5, 0, 12_999, 60_000, 3_599_999, 3_600_000, 86_400_000].map(age), ["0s", "0s", "12s", "1m", "59m", "1h", "1d"]);
  assert.deepEqual([-1, 42_000, 77_900, 3_729_000].map(timer), ["0:00", "0:42", "1:17", "1:02:09"]);
  assert.deepEqual([9_000, 252_000, 11_100_000, 187_200_000].map(wait), ["9s", "4m 12s", "3h 05m", "2d 4h"]);
  assert.deepEqual([-3, 40, 2_149, 34_000, 125_000].map(duration), ["0ms", "40ms", "2.1s", "34s", "2m 05s"]);
});

test("a clock time says the day only when it is another", () => {
  assert.equal(clock(NOON, NOON + 3_600_000, "utc"), "12:00:00");
  assert.equal(clock(NOON, NOON + 86_400_000, "utc"), "20 Nov 12:00");
  assert.equal(clock(NOON, Date.UTC(2027, 0, 1), "utc"), "20 Nov 2026");
});

test("the long form leaves no doubt about the zone", () => {
  assert.equal(absolute(NOON, "utc"), "2026-11-20 12:00:00 UTC");
  assert.match(absolute(NOON, "local"), /^2026-11-20 \d\d:00:00 UTC([+−]\d+(:\d\d)?)? \(.+\)$/);
});

test("amounts", () => {
  assert.deepEqual([0, 999, 1_200, 20_900, 999_499, 1_400_000].map(short), ["0", "999", "1.2k", "21k", "999k", "1.4M"]);
  assert.deepEqual([0, 12, 12_345, 2_500_000].map(money), ["", "<$0.001", "$0.012", "$2.50"]);
  assert.deepEqual([count(1, "message"), count(10_452, "message")], ["1 message", "10 452 messages"]);
  assert.equal(usage(null), "");
  const used = { input_tokens: 3_000, output_tokens: 900, cache_read_tokens: 18_000, cache_write_tokens: 0, cost_microusd: 0 };
  assert.equal(usage(used), "21k in, 900 out");
});

test("names for agents are refused with the reason", () => {
  const taken = new Set(["iris"]);
  assert.equal(nameProblem("iris2", taken), "");
  assert.equal(nameProblem("", taken), "");
  for (const name of ["iris", "Iris", "9lives", "a_b", "iris\n", "operator", "abcdefghij", "íris"]) assert.notEqual(nameProblem(name, taken), "", name);
});

test("a model as an order", () => {
  assert.deepEqual(modelOrdered("/model opus"), { model: "opus" });
  assert.deepEqual(modelOrdered(" /model  claude-sonnet-4-5\n"), { model: "claude-sonnet-4-5" });
  assert.deepEqual(modelOrdered("/model"), { model: null });
  for (const text of ["/models", "/model a b", "say /model opus", "model opus", "/model opus\nhello"]) assert.equal(modelOrdered(text), null, text);
});

test("tools and code in prose", () => {
  assert.equal(toolName("mcp__notes__send"), "notes.send");
  assert.equal(toolName("Bash"), "Bash");
  assert.deepEqual(proseAndCode("with `librsvg` in"), ["with ", "librsvg", " in"]);
  assert.deepEqual(proseAndCode("a ` b"), ["a ` b"]);
});

const message = (more) => ({ id: 12, thread: 9, sender: "iris", to: "hm1nd", body: "Tell ATLAS hello", deliveries: [{ recipient: "hm1nd", state: "in_turn", turn: 41 }], ...more });

test("the filter: every word must match, fields say where", () => {
  const yes = ["", "atlas", "tell hello", "from:iris", "to:hm1", "from:iris to:hm1nd hello", "#12", "#9", "is:in_turn", "is:in-turn"];
  const no = ["nobody", "from:hm1nd", "to:iris", "#13", "is:dead", "from:iris nobody"];
  for (const text of yes) assert.equal(matches(parseFilter(text), message()), true, text);
  for (const text of no) assert.equal(matches(parseFilter(text), message()), false, text);
});

test("a filter of regular-expression signs is just text", () => {
  assert.deepEqual(highlighted("a.b (c", [".b", "("]), ["a", ".b", " ", "(", "c"]);
  assert.equal(highlighted("axb", [".b"]).length, 1);
});

test("progress in words, one recipient and several", () => {
  const delivery = (state, more) => ({ recipient: "iris", state, turn: null, ...more });
  assert.deepEqual(["queued", "leased", "done", "dead"].map((state) => progress(delivery(state)).word), ["queued", "leased", "done", "dead"]);
  assert.equal(progress(delivery("in_turn", { turn: 7 })).word, "in turn 7");
  assert.equal(progress({ recipient: "operator", state: "queued" }).word, "unread");
  assert.equal(progress({ recipient: "operator", state: "done" }).word, "read");
  assert.equal(overall({ deliveries: [delivery("done"), delivery("queued")] }).word, "done 1/2");
  assert.equal(overall({ deliveries: [delivery("done"), delivery("dead")] }).tone, "bad");
  assert.equal(overall({ deliveries: [] }).word, "nobody");
  assert.equal(open({ deliveries: [{ recipient: "operator", state: "queued" }] }), false);
});

test("a few letters find a thing; whole words and starts come first", () => {
  assert.equal(fit("xyz", "iris"), null);
  assert.deepEqual(fit("rs", "restart iris").at, [0, 2]);
  assert.ok(fit("iris", "iris").score > fit("iris", "restart iris").score);
  assert.ok(fit("at", "atlas").score > fit("at", "matrix").score);
  assert.deepEqual(marked("atlas", [0, 1]), ["", "at", "las"]);
  assert.equal(marked("stop iris", fit("si", "stop iris").at).join(""), "stop iris");
});

test("a sigil is the same on every machine, and hardly two names share one", () => {
  assert.deepEqual(sigil("quill"), sigil("quill"));
  assert.notDeepEqual(sigil("iris"), sigil("quill"));
  const names = Array.from({ length: 60 }, (_, i) => `agent${i}`);
  const drawings = new Set(names.map((name) => JSON.stringify(sigil(name))));
  assert.ok(drawings.size >= 50, `${drawings.size} of ${names.length}`);
  assert.equal(sigil("constructor").length > 0, true, "no name reaches an object's own parts");
});

test("a log follows its end only while the reader is there", () => {
  assert.equal(atEnd({ top: 500, height: 1_000, view: 480 }), true);
  assert.equal(atEnd({ top: 100, height: 1_000, view: 480 }), false);
  const change = { top: 100, height: 1_200, view: 480, moved: null };
  assert.equal(scrollAfter({ ...change, sticks: true }), 720);
  assert.equal(scrollAfter({ ...change, sticks: false }), 100);
  assert.equal(scrollAfter({ ...change, sticks: true, moved: 200 }), 300, "what the reader looks at keeps its place");
});
