/** Cursors: reading them, and knowing whether one is past another. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parse, passed } from "../../../webd/static/live/cursor.js";

test("a cursor is an epoch and a number", () => {
  assert.deepEqual(parse("9f3c2ab0-17"), { epoch: "9f3c2ab0", seq: 17 });
  for (const broken of ["", "17", "-17", "9f-", "9F-1", "9f-1x", "9f--1", "9f-1-2"]) assert.equal(parse(broken), null, broken);
});

test("within an epoch the numbers decide", () => {
  assert.equal(passed("aa-9", "aa-10"), false);
  assert.equal(passed("aa-10", "aa-10"), true);
  assert.equal(passed("aa-11", "aa-10"), true);
});

test("after webd began anew everything earlier counts as passed", () => {
  assert.equal(passed("bb-0", "aa-10"), true);
});

test("a cursor nobody can read holds no spinner for ever", () => {
  assert.equal(passed("", "aa-10"), true);
  assert.equal(passed("aa-1", ""), true);
});
