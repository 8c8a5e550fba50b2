/** Differences of files: what is left out is counted, and a few words say how much it is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { differenceWords, rowsOf, sizesWords, tally } from "../../../webd/static/words/differences.js";

const line = (kind, before, after, text = "") => ({ kind, before, after, text });

test("what is left out is counted on both sides", () => {
  const lines = [
    line(" ", 4, 4),
    line("-", 5, null),
    line("+", null, 5),
    line("+", null, 6),
    line(" ", 6, 7),
    line(" ", 20, 21),
    line("-", 21, null),
    line("-", 30, null),
  ];
  assert.deepEqual(
    rowsOf(lines).map((row) => ("skipped" in row ? row.skipped : row.kind)),
    [3, " ", "-", "+", "+", " ", 13, " ", "-", 8, "-"],
  );
  assert.deepEqual(rowsOf([line("+", null, 1), line("+", null, 2)]).length, 2);
  assert.deepEqual(rowsOf([]), []);
  assert.deepEqual(tally(lines), { added: 2, removed: 3 });
});

test("sizes and sums in words", () => {
  const file = (before_bytes, after_bytes, lines = [], cut = false) => ({ path: "a", before_bytes, after_bytes, lines, cut });
  assert.equal(sizesWords(file(null, 300)), "new, 300 B");
  assert.equal(sizesWords(file(300, null)), "removed");
  assert.equal(sizesWords(file(28, 2048)), "28 B → 2.0 KiB");
  assert.equal(sizesWords(file(28, 28)), "28 B");
  assert.equal(differenceWords([file(1, 2, [line("+", null, 1)])]), "1 file, +1 −0");
  assert.equal(differenceWords([file(1, 2), file(null, 2, [line("-", 1, null)], true)]), "2 files, +0 −1, and more");
});
