/** What the chip, the banner and the buttons make of the link. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { after, BANNER_MS, DEAD_MS, judge, opening, SLOW_MS } from "../../../webd/static/live/link.js";

const T = 1_000_000;
const open = after(opening(T), { kind: "opened", now_ms: T });
const broken = after(open, { kind: "broken", now_ms: T + 500, retry_ms: T + 900 });

test("a page that opens is usable at once and tells after a while that nothing came", () => {
  assert.deepEqual(judge(opening(T), T), { word: "opening", banner: false, usable: true, silent_ms: 0 });
  assert.equal(judge(opening(T), T + BANNER_MS).banner, true);
});

test("live, slow, lost: by how long nothing came", () => {
  assert.equal(judge(open, T + SLOW_MS - 1).word, "live");
  assert.equal(judge(open, T + SLOW_MS).word, "slow");
  assert.equal(judge(open, T + SLOW_MS).banner, false);
  const dead = judge(open, T + DEAD_MS);
  assert.equal(dead.word, "lost");
  assert.equal(dead.banner, true);
  assert.equal(dead.usable, false);
});

test("anything heard makes it live again", () => {
  const heard = after(open, { kind: "heard", now_ms: T + SLOW_MS + 1 });
  assert.equal(judge(heard, T + SLOW_MS + 2).word, "live");
  assert.equal(judge(after(broken, { kind: "heard", now_ms: T + 900 }), T + 901).word, "live");
});

test("a short loss shows in the chip only; after two seconds in the banner, and nothing can be sent", () => {
  const soon = judge(broken, T + 500 + BANNER_MS - 1);
  assert.deepEqual([soon.word, soon.banner, soon.usable], ["lost", false, true]);
  const later = judge(broken, T + 500 + BANNER_MS);
  assert.deepEqual([later.word, later.banner, later.usable], ["lost", true, false]);
});

test("a second failed try does not begin the loss anew", () => {
  const again = after(broken, { kind: "broken", now_ms: T + 2_000, retry_ms: T + 4_000 });
  assert.equal(again.since_ms, T + 500);
  assert.equal(again.heard_ms, T, "what is shown is still true as of then");
  assert.equal(again.retry_ms, T + 4_000);
});

test("signed out is the end: no later step opens it again", () => {
  const out = after(open, { kind: "signed_out", now_ms: T + 10 });
  for (const kind of ["opened", "heard", "parked"]) assert.equal(after(out, { kind, now_ms: T + 20 }).phase, "signed_out");
  assert.deepEqual(judge(out, T + 30), { word: "signed out", banner: true, usable: false, silent_ms: 30 });
});

test("a parked page is neither lost nor loud", () => {
  const parked = after(open, { kind: "parked", now_ms: T + 10 });
  assert.deepEqual(judge(parked, T + 10 * DEAD_MS), { word: "parked", banner: false, usable: true, silent_ms: 10 * DEAD_MS });
});
