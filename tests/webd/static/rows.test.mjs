/** Joining rows: windows without holes, whatever the link did. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { extended, heldOrder, merge, renewed, trimmed, unreadDelivery, wanting } from "../../../webd/static/live/rows.js";

const id = (row) => row.id;
const rows = (...ids) => ids.map((n) => ({ id: n }));
const ids = (list) => list.map(id);

test("merge keeps the order and lets the fresh row win", () => {
  const known = [{ id: 1, v: "a" }, { id: 3, v: "a" }, { id: 5, v: "a" }];
  const joined = merge(known, [{ id: 2, v: "b" }, { id: 3, v: "b" }, { id: 7, v: "b" }], id);
  assert.deepEqual(joined.map((row) => `${row.id}${row.v}`), ["1a", "2b", "3b", "5a", "7b"]);
  assert.deepEqual(ids(known), [1, 3, 5], "what was known is not changed");
});

test("merge equals sorting the union, for random lists", () => {
  let state = 7;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  const list = () => [...new Set(Array.from({ length: random(12) }, () => random(20)))].sort((a, b) => a - b);
  for (let i = 0; i < 500; i++) {
    const [known, fresh] = [list(), list()];
    const expected = [...new Set([...known, ...fresh])].sort((a, b) => a - b);
    assert.deepEqual(ids(merge(rows(...known), rows(...fresh), id)), expected);
  }
});

test("a snapshot that overlaps extends the window", () => {
  const window = renewed({ rows: rows(1, 2, 3, 4), more: true }, rows(3, 4, 5, 6), false, id);
  assert.deepEqual([ids(window.rows), window.more], [[1, 2, 3, 4, 5, 6], true]);
});

test("a snapshot that does not overlap replaces it: no hole is ever shown as if it were none", () => {
  const window = renewed({ rows: rows(1, 2, 3), more: false }, rows(7, 8), false, id);
  assert.deepEqual([ids(window.rows), window.more], [[7, 8], true]);
});

test("a snapshot of everything has nothing older", () => {
  assert.equal(renewed({ rows: [], more: true }, rows(1, 2), true, id).more, false);
  assert.equal(renewed({ rows: rows(1, 2), more: false }, [], true, id).rows.length, 0, "an emptied log is empty");
});

test("older pages go on top, trimmed ones can be loaded again", () => {
  const window = extended({ rows: rows(5, 6), more: true }, rows(3, 4), false, id);
  assert.deepEqual([ids(window.rows), window.more], [[3, 4, 5, 6], false]);
  assert.deepEqual(trimmed(window, 2), { rows: rows(5, 6), more: true });
  assert.equal(trimmed(window, 4), window);
});

const letter = (n, recipient, state, changed_ms = 0) => ({ id: n, deliveries: [{ recipient, state, changed_ms }] });

test("a letter is unread until the operator has read it", () => {
  assert.ok(unreadDelivery(letter(1, "operator", "queued")));
  assert.equal(unreadDelivery(letter(1, "operator", "done")), undefined);
  assert.equal(unreadDelivery(letter(1, "iris", "queued")), undefined);
});

test("what wants the operator: unread letters and fresh failures, longest waiting first", () => {
  const messages = [letter(4, "iris", "dead", 50), letter(3, "operator", "queued"), letter(2, "iris", "dead", 5), letter(1, "iris", "queued")];
  assert.deepEqual(ids(wanting(messages, 10)), [3, 4]);
});

test("rows do not move while they are pointed at", () => {
  assert.deepEqual(heldOrder(["b", "a"], ["a", "b", "c"], false), ["a", "b", "c"]);
  assert.deepEqual(heldOrder(["b", "a"], ["a", "c"], true), ["b", "a", "c"], "gone ones keep their place, new ones wait at the end");
});
