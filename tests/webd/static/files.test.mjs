/** An agent's files as the page knows them: places, and answers that come too late. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { below, Files, folderOf, sizeWords, trail } from "../../../webd/static/live/files.js";

test("places below a folder", () => {
  assert.equal(below("", "a"), "a");
  assert.equal(below("notes", "a b"), "notes/a b");
  assert.deepEqual(["", "a", "a/b/c"].map(folderOf), ["", "", "a/b"]);
  assert.deepEqual(trail("a/b"), [{ name: "a", path: "a" }, { name: "b", path: "a/b" }]);
  assert.deepEqual(trail(""), []);
});

test("what everything takes, and that it was not all counted", () => {
  const words = (complete) => sizeWords({ bytes: 5, files: 1, complete }, (n) => `${n} B`, (n, one) => `${n} ${one}`);
  assert.equal(words(true), "5 B in 1 file");
  assert.equal(words(false), "more than 5 B in 1 file");
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

test("an answer for a folder that was left is dropped", async () => {
  const asked = held();
  const files = new Files("iris");
  files.show("slow", null);
  files.show("quick", null);
  asked[1].answer({ entries: [{ name: "b" }], after: null });
  asked[0].answer({ entries: [{ name: "a" }], after: null });
  await settled();
  assert.equal(files.folder.value.path, "quick");
  assert.deepEqual(files.folder.value.entries.map((entry) => entry.name), ["b"]);
});

test("pages and parts follow each other", async () => {
  const asked = held();
  const files = new Files("iris");
  files.show("", "a&b");
  assert.deepEqual(asked.map(({ path }) => path), [
    "/api/v1/agents/iris/files?path=&after=",
    "/api/state-file?agent=iris&path=a%26b&offset=0",
  ]);
  asked[0].answer({ entries: [{ name: "1" }], after: "1" });
  asked[1].answer({ text: "x", next: 1 });
  await settled();
  void files.more();
  void files.further();
  assert.match(asked[2].path, /after=1$/);
  assert.match(asked[3].path, /offset=1$/);
  asked[2].answer({ entries: [{ name: "2" }], after: null });
  asked[3].answer({ text: "y", next: null });
  await settled();
  assert.equal(files.folder.value.entries.length, 2);
  assert.deepEqual(files.opened.value.parts.map((part) => part.text), ["x", "y"]);
});

test("a refusal is told and leaves what is there", async () => {
  const asked = held();
  const files = new Files("iris");
  files.show("", "way");
  asked[0].answer({ entries: [], after: null });
  asked[1].answer({ problem: "conflict", detail: "way is a link" }, false);
  await settled();
  assert.equal(files.opened.value.fault, "way is a link");
  assert.deepEqual(files.folder.value.entries, []);
  assert.equal(files.size.value, null);
});
