/** Cages that still run what was before, in words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fewNames, staleTogether } from "../../../webd/static/words/stale.js";

test("who is stale for the same reason stands together", () => {
  const claude = "claude was 1, is 2";
  const agents = [
    { name: "hm1nd", stale: claude },
    { name: "iris", stale: "" },
    { name: "otto", stale: "hyperhive was a, is b" },
    { name: "vesper", stale: claude },
  ];
  assert.deepEqual([...staleTogether(agents)], [[claude, ["hm1nd", "vesper"]], ["hyperhive was a, is b", ["otto"]]]);
  assert.equal(staleTogether([{ name: "iris", stale: "" }]).size, 0);
});

test("few names are named, and never one other alone", () => {
  const names = (/** @type {number} */ count) => [..."abcdefgh"].slice(0, count);
  assert.deepEqual(fewNames(names(1)), { named: names(1), others: 0 });
  assert.deepEqual(fewNames(names(6)), { named: names(6), others: 0 });
  assert.deepEqual(fewNames(names(7)), { named: names(5), others: 2 });
});
