/** The tail as the page keeps it equals the turns webd has, whatever was replayed, lost or loaded later. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CHUNK_EVENTS, EVENTS_KEPT_MAX, Tail } from "../../../webd/static/live/tail.js";

const turn = (id, ended_ms = null) => ({ id, agent: "iris", began_ms: id * 1_000, ended_ms });
const said = (of, n) => ({ turn: of, n, at_ms: n, kind: "said", text: `${of}.${n}` });
const many = (of, count) => Array.from({ length: count }, (_, i) => said(of, i + 1));
const shown = (tail) =>
  tail.turns.value.map((rows) => [rows.id, ...rows.chunks.value.flatMap((chunk) => chunk.value.map((event) => event.n))]);

test("events join their turn in order, and a replayed one is not shown twice", () => {
  const tail = new Tail();
  tail.renew({ turns: [turn(1)], events: many(1, 2), more: false });
  tail.take({ event: said(1, 2) });
  tail.take({ event: said(1, 3) });
  tail.take({ turn: turn(2) });
  tail.take({ event: said(2, 1) });
  assert.deepEqual(shown(tail), [[1, 1, 2, 3], [2, 1]]);
});

test("an event of a turn nobody has told of makes room for it", () => {
  const tail = new Tail();
  tail.take({ event: said(9, 1) });
  assert.equal(tail.turns.value[0].turn.value, null);
  tail.take({ turn: turn(9) });
  assert.deepEqual(shown(tail), [[9, 1]]);
  assert.equal(tail.turns.value[0].turn.value.id, 9);
});

test("a chunk is full at its limit: an event that arrives changes the last chunk only", () => {
  const tail = new Tail();
  tail.renew({ turns: [turn(1)], events: many(1, CHUNK_EVENTS + 1), more: false });
  const [first, second] = tail.turns.value[0].chunks.value;
  const before = first.value;
  tail.take({ event: said(1, CHUNK_EVENTS + 2) });
  assert.equal(first.value, before);
  assert.equal(second.value.length, 2);
});

test("what a tool gave back joins its call instead of being a row", () => {
  const tail = new Tail();
  tail.take({ event: { turn: 1, n: 1, kind: "tool_called", call: "c1" } });
  tail.take({ event: { turn: 1, n: 2, kind: "tool_returned", call: "c1", ok: true } });
  tail.take({ event: { turn: 1, n: 3, kind: "tool_returned", call: "unknown", ok: true } });
  assert.deepEqual(shown(tail), [[1, 1, 3]]);
  assert.equal(tail.turns.value[0].returned.get("c1").value.n, 2);
});

test("a snapshot that overlaps keeps older turns; one that does not lets them go and says so", () => {
  const tail = new Tail();
  tail.renew({ turns: [turn(1), turn(2)], events: [...many(1, 1), ...many(2, 1)], more: false });
  tail.renew({ turns: [turn(2), turn(3)], events: [...many(2, 3), ...many(3, 1)], more: true });
  assert.deepEqual(shown(tail), [[1, 1], [2, 1, 2, 3], [3, 1]]);
  assert.equal(tail.more.value, false, "turn 1 is still the oldest there is");
  tail.renew({ turns: [turn(8)], events: many(8, 1), more: true });
  assert.deepEqual(shown(tail), [[8, 1]]);
  assert.equal(tail.skipped.value, true);
  tail.prepend({ turns: [turn(7)], events: many(7, 2), more: true });
  assert.deepEqual(shown(tail), [[7, 1, 2], [8, 1]]);
  assert.equal(tail.skipped.value, false);
});

test("rows loaded on top are not counted as new", () => {
  const tail = new Tail();
  tail.renew({ turns: [turn(5)], events: many(5, 3), more: true });
  const added = tail.added.value;
  tail.prepend({ turns: [turn(4)], events: many(4, 3), more: false });
  assert.equal(tail.added.value, added);
  tail.take({ event: said(5, 4) });
  assert.equal(tail.added.value, added + 1);
});

test("the page does not grow for ever: whole turns go from the top and can be loaded again", () => {
  const tail = new Tail();
  const half = EVENTS_KEPT_MAX / 2;
  tail.renew({ turns: [turn(1), turn(2)], events: [...many(1, half), ...many(2, half)], more: false });
  tail.take({ event: said(2, half + 1) });
  assert.deepEqual(tail.turns.value.map((rows) => rows.id), [2]);
  assert.equal(tail.more.value, true);
});

test("random cuts, replays and snapshots: no doubles, no holes inside what is shown", () => {
  let state = 11;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let round = 0; round < 60; round++) {
    const log = [];
    const tail = new Tail();
    let at = 0;
    let [id, n] = [1, 0];
    log.push({ turn: turn(1) });
    for (let i = 0; i < 120; i++) {
      if (random(6) === 0) log.push({ turn: turn(++id) }), (n = 0);
      else log.push({ event: said(id, ++n) });
      if (random(9) === 0) at = Math.max(0, at - random(5)); // replayed from an older cursor
      if (random(25) === 0) {
        const from = Math.max(1, id - random(3)); // the link was lost: a snapshot of the newest turns, whole
        const events = log.filter((item) => item.event && item.event.turn >= from).map((item) => item.event);
        tail.renew({ turns: log.filter((item) => item.turn && item.turn.id >= from).map((item) => item.turn), events, more: from > 1 });
        at = log.length;
      } else while (at < log.length) tail.take(log[at++]);
    }
    while (at < log.length) tail.take(log[at++]);
    for (const [of, ...ns] of shown(tail)) {
      const all = log.filter((item) => item.event?.turn === of).map((item) => item.event.n);
      assert.deepEqual(ns, all, `turn ${of} of round ${round}`);
    }
    const turns = tail.turns.value.map((rows) => rows.id);
    assert.deepEqual(turns, Array.from({ length: turns.length }, (_, i) => id - turns.length + 1 + i));
  }
});
