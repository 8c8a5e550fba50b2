/** A repository as the page knows it: what a commit is compared with, and answers that come too late. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { metaRepository, repositoryOf } from "../../../webd/static/live/repository.js";

const A = "a".repeat(40);
const B = "b".repeat(40);
const C = "c".repeat(40);
const CONFIG = "/api/v1/agents/iris/config";
const RECORD = {
  main: A,
  refs: [
    { name: "main", commit: A, document: null },
    { name: "proposal/3", commit: C, document: { kind: "config", base: A, proposed_ms: 1 } },
    { name: "deployed/1", commit: B, document: { at_ms: 1, begun: { kind: "spawn", base: null, began_ms: 1 } } },
  ],
  log: [
    { commit: A, at_ms: 2, subject: "second", tags: [] },
    { commit: B, at_ms: 1, subject: "first", tags: [] },
  ],
};

/** A webd that answers by what is asked; `held` answers wait until they are let go. */
function webd(answers) {
  const asked = [];
  const held = new Map();
  globalThis.fetch = (path) => {
    asked.push(path);
    const answer = (body, ok = true) => ({ ok, status: ok ? 200 : 404, json: () => Promise.resolve(body) });
    for (const [start, body] of Object.entries(answers))
      if (path.startsWith(start)) {
        if (typeof body === "function") return new Promise((go) => held.set(path, () => go(answer(body()))));
        return Promise.resolve(body instanceof Error ? answer({ problem: "not_found", detail: body.message }, false) : answer(body));
      }
    throw new Error(`nobody asked for ${path}`);
  };
  return { asked, held };
}

const settled = () => new Promise((resume) => setTimeout(resume));

test("a tag is compared with what it was over", async () => {
  const { asked } = webd({ "/api/agent-config/iris": RECORD, [`${CONFIG}/diff`]: [], [`${CONFIG}/files`]: [{ path: "a", bytes: 3 }] });
  const repository = repositoryOf("iris");
  await repository.load({ tag: "proposal/3" });
  await settled();
  assert.equal(repository.opened.value.before, A);
  assert.equal(repository.opened.value.tag.number, 3);
  assert.ok(asked.includes(`${CONFIG}/diff?commit=${C}&before=${A}`));
  repository.show({ tag: "deployed/1" });
  await settled();
  assert.equal(repository.opened.value.before, null);
  assert.ok(asked.includes(`${CONFIG}/diff?commit=${B}`));
});

test("a commit is compared with the one before it, or with what was chosen", async () => {
  const { asked } = webd({
    "/api/agent-config/iris": RECORD,
    [`${CONFIG}/log`]: RECORD.log,
    [`${CONFIG}/diff`]: [],
    [`${CONFIG}/files`]: [],
  });
  const repository = repositoryOf("iris");
  await repository.load({ commit: A });
  await settled();
  assert.equal(repository.opened.value.before, B);
  repository.show({ commit: A, before: C });
  await settled();
  assert.equal(repository.opened.value.before, C);
  repository.show({ commit: A, before: "nothing" });
  await settled();
  assert.equal(repository.opened.value.before, null);
  assert.equal(asked.filter((path) => path.startsWith(`${CONFIG}/log`)).length, 1);
});

test("an answer for what was left is dropped, a refusal is told", async () => {
  const { held } = webd({
    "/api/agent-config/iris": RECORD,
    [`${CONFIG}/file?commit=${A}`]: () => ({ path: "slow", bytes: 1, text: "x" }),
    [`${CONFIG}/file?commit=${B}`]: new Error("the commit has no file"),
  });
  const repository = repositoryOf("iris");
  await repository.load({ commit: A, file: "slow" });
  repository.show({ commit: B, file: "none" });
  await settled();
  [...held.values()].forEach((go) => go());
  await settled();
  assert.equal(repository.opened.value.fault, "the commit has no file");
  assert.equal(repository.opened.value.text, null);
  repository.show({ tag: "deployed/9" });
  assert.equal(repository.opened.value, null);
  assert.match(repository.fault.value, /nothing is recorded of deployed\/9/);
});

test("what is open is drawn again only when its number has come further", async () => {
  const answers = { "/api/agent-config/iris": RECORD, [`${CONFIG}/diff`]: [], [`${CONFIG}/files`]: [] };
  const { asked } = webd(answers);
  const repository = repositoryOf("iris");
  await repository.load({ tag: "proposal/3" });
  await settled();
  const before = repository.opened.value;
  await repository.load({ tag: "proposal/3" });
  await settled();
  assert.equal(repository.opened.value, before);
  assert.equal(asked.filter((path) => path.startsWith(`${CONFIG}/diff`)).length, 1);
  const done = { name: "deployed/3", commit: B, document: { at_ms: 4, begun: { kind: "config", base: A, began_ms: 3 } } };
  answers["/api/agent-config/iris"] = { ...RECORD, main: B, refs: [done] };
  await repository.load({ tag: "proposal/3" });
  await settled();
  assert.deepEqual([repository.opened.value.tag.name, repository.opened.value.commit], ["deployed/3", B]);
});

test("tags of older numbers are asked for, and found by their address", async () => {
  const tag = (number) => ({ name: `deployed/${number}`, commit: B, document: { at_ms: number, begun: { base: null } } });
  const answers = {
    "/api/agent-config/iris": { ...RECORD, refs: [tag(9), tag(8)] },
    [`${CONFIG}/refs?before=8`]: [tag(7), tag(6)],
    [`${CONFIG}/refs?before=6`]: [tag(1)],
    [`${CONFIG}/refs?before=4`]: [tag(3), tag(1)],
    [`${CONFIG}/diff`]: [],
    [`${CONFIG}/files`]: [],
  };
  webd(answers);
  const repository = repositoryOf("iris");
  await repository.load({});
  const numbers = () => repository.tags.value.map(({ number }) => number);
  assert.deepEqual([numbers(), repository.older.value.more], [[9, 8], true]);
  await repository.earlier();
  await repository.earlier();
  assert.deepEqual([numbers(), repository.older.value.more], [[9, 8, 7, 6, 1], false]);
  await repository.load({ tag: "deployed/3" });
  await settled();
  assert.equal(repository.opened.value.tag.name, "deployed/3");
  assert.deepEqual(numbers(), [9, 8, 3, 1]);
});

test("the log goes on behind what is shown", async () => {
  const log = Array.from({ length: 50 }, (_, i) => ({ commit: String(i).padStart(40, "0"), at_ms: i, subject: "", tags: [] }));
  const { asked } = webd({ "/api/v1/meta/log": [log[49], RECORD.log[1]], "/api/v1/meta": { ...RECORD, refs: [], log, live: [] } });
  const repository = metaRepository();
  await repository.load({});
  assert.equal(repository.more.value, true);
  await repository.further();
  assert.equal(asked.at(-1), `/api/v1/meta/log?commit=${log[49].commit}&limit=51`);
  assert.deepEqual([repository.record.value.log.length, repository.more.value], [51, false]);
});

test("a repository that cannot be read says why", async () => {
  webd({ "/api/agent-config/nobody": new Error("there is no agent nobody here") });
  const repository = repositoryOf("nobody");
  await repository.load({});
  assert.match(repository.fault.value, /no agent nobody/);
  assert.equal(repository.record.value, null);
});
