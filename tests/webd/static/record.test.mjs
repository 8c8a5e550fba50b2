/** The record of configurations in words: one row for each number, what its document says, addresses that come back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  aboutOf,
  addressOf,
  baseOf,
  bytesOf,
  comparable,
  factsOf,
  generationAt,
  numbered,
  placeOf,
  sha,
  whenOf,
  wordOf,
} from "../../../webd/static/words/record.js";

const A = "a".repeat(40);
const B = "b".repeat(40);
const asked = { kind: "config", commit: A, base: B, by: "manager", description: "why", proposed_ms: 5, expires_ms: 99 };
const click = { at_ms: 6, document: "", proof: { kind: "click" }, approver: null };
const key = { at_ms: 7, document: "", proof: { kind: "passkey" }, approver: { name: "laptop" } };

const ref = (name, document, commit = A) => ({ name, commit, document });
const row = (name, document) => numbered([ref(name, document)])[0];

test("a number is one row, by the furthest that it has come", () => {
  const rows = numbered([
    ref("main", null, B),
    ref("proposal/3", asked),
    ref("approved/3", { at_ms: 6, words: [click] }),
    ref("building/3", { kind: "config", base: B, began_ms: 7 }),
    ref("deployed/2", { at_ms: 4, begun: { kind: "spawn", base: null, began_ms: 3 }, asked }),
    ref("denied/10", { end: "withdrawn", at_ms: 9, by: "manager", reason: "", asked }),
  ]);
  assert.deepEqual(
    rows.map(({ name, tone, others }) => [name, tone, others]),
    [
      ["denied/10", "bad", []],
      ["building/3", "no", ["approved/3", "proposal/3"]],
      ["deployed/2", "ok", []],
    ],
  );
});

test("what it was for, over what, and when", () => {
  const proposal = row("proposal/1", asked);
  assert.deepEqual([aboutOf(proposal), baseOf(proposal), whenOf(proposal)], ["why", B, 5]);
  const again = row("deployed/4", { at_ms: 8, begun: { kind: "rollback", base: A, began_ms: 7, of: 2 }, asked: null });
  assert.deepEqual([aboutOf(again), baseOf(again), whenOf(again)], ["the content of generation 2 again", A, 8]);
  const first = row("deployed/1", { at_ms: 8, begun: { kind: "spawn", base: null, began_ms: 7 }, asked: { ...asked, description: "" } });
  assert.deepEqual([aboutOf(first), baseOf(first)], ["spawn", null]);
  const broken = row("deployed/1", null);
  assert.deepEqual([aboutOf(broken), baseOf(broken), whenOf(broken)], ["", undefined, null]);
});

const facts = (tag) => Object.fromEntries(factsOf(tag).map(({ term, text, ms }) => [term, text ?? ms]));

test("what a document says", () => {
  const done = row("deployed/2", { at_ms: 9, begun: { kind: "config", base: B, began_ms: 8 }, asked, approved: { at_ms: 7, words: [click, key] } });
  assert.deepEqual(facts(done), {
    "came to": "deployed",
    kind: "config",
    "asked by": "manager",
    asked: 5,
    why: "why",
    "decided by": "click and passkey laptop",
    approved: 7,
    begun: 8,
    ended: 9,
  });
  const no = facts(row("denied/3", { end: "denied", at_ms: 9, by: "operator", reason: "not now", asked }));
  assert.deepEqual([no["came to"], no["decided by"], no.reason], ["denied", "operator", "not now"]);
  const gone = facts(row("failed/3", { at_ms: 9, cancelled: true, reason: "given up", begun: { kind: "config", began_ms: 8 }, asked }));
  assert.deepEqual([gone["came to"], gone.ended], ["cancelled", 9]);
  assert.equal(facts(row("agreed/3", { word: key }))["decided by"], "passkey laptop");
  assert.equal(facts(row("proposal/3", asked)).expires, 99);
  assert.equal(wordOf(key), "passkey laptop");
});

test("addresses come back as they were", () => {
  for (const place of [
    {},
    { tag: "deployed/2" },
    { commit: A, before: B },
    { commit: A, before: "nothing" },
    { tag: "deployed/2", commit: A, file: "bin/a b&c?.sh" },
  ])
    assert.deepEqual(placeOf(addressOf(place)), place);
  assert.deepEqual(placeOf("?commit=main&before=HEAD&more=1"), {});
  assert.equal(addressOf({}), "");
});

test("what can be compared is named once", () => {
  const log = [
    { commit: A, at_ms: 1, subject: "second", tags: [] },
    { commit: B, at_ms: 1, subject: "first", tags: [] },
  ];
  assert.deepEqual(comparable(log, numbered([ref("deployed/2", {}), ref("denied/1", {}, "c".repeat(40))])), [
    { commit: A, label: `deployed/2 · ${sha(A)}` },
    { commit: "c".repeat(40), label: "denied/1 · cccccccccc" },
    { commit: B, label: "bbbbbbbbbb · first" },
  ]);
  assert.equal(bytesOf([{ path: "a", bytes: 3 }, { path: "b", bytes: 4 }]), 7);
});

test("the record of a generation has an address, which the page of it understands", () => {
  const { pathname, search } = new URL(generationAt("iris", 12), "http://hive");
  assert.equal(pathname, "/agent/iris/config");
  assert.deepEqual(placeOf(search), { tag: "deployed/12" });
});
