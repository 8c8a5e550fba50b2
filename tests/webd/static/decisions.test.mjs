/** Proposals and deployments in words, and a log that is read and told at the same time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BuildLog } from "../../../webd/static/live/buildlog.js";
import { isStale, look, looked, seen, stillSame } from "../../../webd/static/live/looked.js";
import { deployments } from "../../../webd/static/live/store.js";
import { changeWords, deploymentWords, generations, history, isGivableUp, isOlder, runs } from "../../../webd/static/words/decisions.js";

const NOW = Date.now();
const row = (more) => ({ agent: "iris", number: 1, kind: "config", state: "deployed", commit: "c", began_ms: 1, since_ms: 1, ended_ms: 2, of: null, detail: "", ...more });

test("changes and deployments in words", () => {
  assert.equal(changeWords({ before: null, after: "opus" }), "opus (new)");
  assert.equal(changeWords({ before: "sonnet", after: "opus" }), "sonnet → opus");
  assert.equal(changeWords({ before: "opus", after: null }), "not any more (was opus)");
  assert.equal(deploymentWords(row({ number: 3 })), "config 3");
  assert.equal(deploymentWords(row({ number: 5, kind: "rollback", of: 3 })), "back 5, to 3");
});

test("what runs, what may be given up, and what can be gone back to", () => {
  const states = ["waiting", "building", "switching", "checking"];
  assert.deepEqual(states.map((state) => isGivableUp(row({ state, ended_ms: null }))), [true, true, false, false]);
  assert.deepEqual([runs(row({ ended_ms: null })), runs(row())], [true, false]);
  const rows = [row(), row({ number: 2 }), row({ number: 3, state: "returned" }), row({ agent: "atlas", number: 7 }), row({ number: 0, kind: "init" })];
  const newest = generations(rows);
  assert.deepEqual([...newest], [["iris", 2], ["atlas", 7]]);
  assert.deepEqual(rows.map((each) => isOlder(each, newest)), [true, false, false, false, false]);
});

test("what has ended, newest first; what waits or was deployed is no refusal", () => {
  const proposal = (number, state, decided_ms) => ({ agent: "iris", number, state, decided_ms });
  const found = history(
    [row({ number: 2, ended_ms: 20 }), row({ number: 3, ended_ms: null }), row({ number: 1, ended_ms: 10 })],
    [proposal(4, "denied", 15), proposal(5, "open", null), proposal(2, "deployed", 19), proposal(6, "expired", 30)],
  );
  assert.deepEqual(found.map(({ key }) => key), ["p iris/6", "d iris/2", "p iris/4", "d iris/1"]);
});

/** A webd that answers when it is told to. */
function held() {
  const asked = [];
  globalThis.fetch = (path) =>
    new Promise((resolve) =>
      asked.push({
        path,
        answer: (body, ok = true) => resolve({ ok, status: ok ? 200 : 409, json: () => Promise.resolve(body) }),
      }),
    );
  return asked;
}

const settled = () => new Promise((resume) => setTimeout(resume));
const lines = (...offsets) => offsets.map((offset) => ({ offset, text: `line ${offset}` }));
const told = (...offsets) => ({ agent: "iris", number: 1, lines: lines(...offsets) });
const offsets = (log) => log.lines.value.map(({ offset }) => offset);

test("a log that is read joins what is told, and older lines come before", async () => {
  const asked = held();
  const log = new BuildLog("iris", 1);
  log.take(told(50)); // before it was read: nothing to join
  assert.equal(log.lines.value, null);
  void log.load();
  asked[0].answer({ lines: lines(30, 40), before: 30 });
  await settled();
  log.take(told(40, 50));
  log.take(told(40, 50, 60));
  assert.deepEqual(offsets(log), [30, 40, 50, 60]);
  void log.older();
  assert.match(asked[1].path, /\/deployments\/1\/log\?before=30$/);
  asked[1].answer({ lines: lines(10, 20), before: null });
  await settled();
  assert.deepEqual(offsets(log), [10, 20, 30, 40, 50, 60]);
  assert.equal(log.before.value, null);
});

test("lines that were missed in between are read", async () => {
  const asked = held();
  const log = new BuildLog("iris", 1);
  void log.load();
  asked[0].answer({ lines: lines(0, 10), before: null });
  await settled();
  log.take(told(80, 90));
  asked[1].answer({ lines: lines(60, 70, 80, 90), before: 60 });
  await settled();
  assert.deepEqual(offsets(log), [60, 70, 80, 90]);
  assert.equal(log.before.value, 60);
});

test("a log that cannot be read says why", async () => {
  const asked = held();
  const log = new BuildLog("iris", 9);
  void log.load();
  asked[0].answer({ problem: "not_found", detail: "iris has no deployment 9" }, false);
  await settled();
  assert.equal(log.fault.value, "iris has no deployment 9");
  assert.equal(log.lines.value, null);
});

const shown = (more = {}, until_ms = NOW + 600_000) => ({
  proposal: { agent: "iris", number: 1, commit: "c", tree: "t" },
  current_base: "b",
  diff: [],
  document: JSON.stringify({ until_ms }),
  digest: "d",
  ...more,
});

test("what was looked at is approved as it was shown, until something else is deployed", async () => {
  const asked = held();
  const first = look("iris", 1);
  await settled();
  asked[0].answer(shown());
  await first;
  assert.equal((await stillSame("iris", 1)).digest, "d");
  assert.equal(isStale(looked("iris", 1).value, "iris"), false);
  deployments.value = new Map([["atlas/4", row({ agent: "atlas", number: 4 })], ["iris/3", row({ number: 3, state: "returned" })]]);
  assert.equal(isStale(looked("iris", 1).value, "iris"), false);
  deployments.value = new Map([["iris/4", row({ number: 4 })]]);
  assert.equal(isStale(looked("iris", 1).value, "iris"), true);
  const again = look("iris", 1);
  await settled();
  asked[1].answer(shown({ current_base: "b2", digest: "d2" }));
  await again;
  assert.deepEqual([isStale(looked("iris", 1).value, "iris"), looked("iris", 1).value.changed], [false, true]);
  seen("iris", 1);
  assert.equal(looked("iris", 1).value.changed, false);
  assert.equal(asked.length, 2);
});

test("a page whose time is nearly over is asked for anew, and another one is not approved unseen", async () => {
  for (const [anew, digest] of [[{ digest: "fresh" }, "fresh"], [{ digest: "other", current_base: "b9" }, undefined]]) {
    const asked = held();
    const number = digest ? 20 : 21;
    const first = look("iris", number);
    await settled();
    asked[0].answer(shown({}, NOW + 1_000));
    await first;
    const approved = stillSame("iris", number);
    await settled();
    asked[1].answer(shown(anew));
    assert.equal((await approved)?.digest, digest);
    assert.equal(looked("iris", number).value.changed, !digest);
  }
});

test("what cannot be shown says why and does not stop the next", async () => {
  const asked = held();
  const [broken, well] = [look("iris", 30), look("iris", 31)];
  await settled();
  asked[0].answer({ problem: "failed", detail: "no such box" }, false);
  assert.equal(await broken, null);
  await settled();
  asked[1].answer(shown());
  assert.equal((await well).digest, "d");
  assert.deepEqual([looked("iris", 30).value.fault, await stillSame("iris", 30)], ["no such box", null]);
});
