/** The stream against a scripted browser: one line says what happens, the next what the page must do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEAD_MS } from "../../../webd/static/live/link.js";
import { openStream, RETRY_FIRST_MS, RETRY_MAX_MS } from "../../../webd/static/live/stream.js";

class Source {
  readyState = 1;
  handlers = new Map();
  constructor(url) {
    this.url = new URL(url, "http://hive.test");
  }
  addEventListener(kind, take) {
    this.handlers.set(kind, take);
  }
  close() {
    this.readyState = 2;
  }
  say(kind, data, id = "") {
    this.handlers.get(kind)({ data: JSON.stringify(data), lastEventId: id });
  }
  fail(readyState) {
    this.readyState = readyState;
    this.onerror();
  }
}

function browser({ signed_in = true } = {}) {
  const world = {
    sources: [],
    timers: new Map(),
    clock: 0,
    next: 1,
    get last() {
      return world.sources[world.sources.length - 1];
    },
    /** Time passes; timers that are due run in their order. */
    pass(ms) {
      const until = world.clock + ms;
      for (;;) {
        const due = [...world.timers].filter(([, timer]) => timer.at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
        if (!due) break;
        world.timers.delete(due[0]);
        world.clock = due[1].at;
        due[1].run();
      }
      world.clock = until;
    },
    open: (url) => {
      world.sources.push(new Source(url));
      return world.last;
    },
    later: (run, delay_ms) => {
      world.timers.set(world.next, { run, at: world.clock + delay_ms });
      return world.next++;
    },
    cancel: (timer) => void world.timers.delete(timer),
    now_ms: () => world.clock,
    random: () => 0.5,
    signed_in: async () => signed_in,
  };
  return world;
}

function page(world, cursor = "aa-5") {
  const seen = { steps: [], arrivals: [], snapshots: [], beats: [] };
  const stream = openStream(
    {
      topics: ["hive", "agents", "tail:iris"],
      cursor,
      snapshot: (snapshot, at) => seen.snapshots.push([snapshot.why, at]),
      arrival: (arrival, at) => seen.arrivals.push([arrival.topic, arrival.key, at]),
      heartbeat: (now_ms, at) => seen.beats.push([now_ms, at]),
      link: (step) => seen.steps.push(step.kind),
    },
    world,
  );
  return { stream, seen };
}

const settled = () => new Promise((resume) => setImmediate(resume));

test("it opens from the cursor of the boot block, for its topics", () => {
  const world = browser();
  page(world);
  assert.equal(world.last.url.pathname, "/api/v1/stream");
  assert.equal(world.last.url.searchParams.get("topics"), "hive,agents,tail:iris");
  assert.equal(world.last.url.searchParams.get("from"), "aa-5");
});

test("without a cursor it asks for a snapshot", () => {
  const world = browser();
  page(world, "");
  assert.equal(world.last.url.searchParams.has("from"), false);
});

test("arrivals, heartbeats and snapshots carry how far the stream has come", () => {
  const world = browser();
  const { seen } = page(world);
  world.last.onopen();
  world.last.say("agents", { k: "iris", d: null }, "aa-6");
  world.last.say("tail:iris", { d: {} }, "aa-7");
  world.last.say("hb", { now_ms: 12 }, "aa-8");
  world.last.say("snapshot", { why: "slow" }, "aa-9");
  assert.deepEqual(seen.arrivals, [["agents", "iris", "aa-6"], ["tail:iris", null, "aa-7"]]);
  assert.deepEqual(seen.beats, [[12, "aa-8"]]);
  assert.deepEqual(seen.snapshots, [["slow", "aa-9"]]);
});

test("after a loss it comes back from where it was, waiting longer each time, never longer than the limit", () => {
  const world = browser();
  const { seen } = page(world);
  world.last.say("agents", { k: "iris", d: {} }, "aa-41");
  const waits = [];
  for (let i = 0; i < 6; i++) {
    const before = world.sources.length;
    world.last.fail(0);
    assert.equal(world.last.readyState, 2, "the browser's own retry is not used");
    let waited = 0;
    while (world.sources.length === before) {
      world.pass(50);
      waited += 50;
      assert.ok(waited <= RETRY_MAX_MS * 1.3, "it must come back");
    }
    waits.push(waited);
    assert.equal(world.last.url.searchParams.get("from"), "aa-41");
  }
  assert.deepEqual(waits, [...waits].sort((a, b) => a - b));
  assert.equal(waits[0], RETRY_FIRST_MS);
  assert.equal(waits.at(-1), RETRY_MAX_MS);
  assert.ok(seen.steps.includes("broken"));
});

test("once something was heard the waits begin small again", () => {
  const world = browser();
  page(world);
  for (let i = 0; i < 4; i++) {
    world.last.fail(0);
    world.pass(RETRY_MAX_MS * 2);
  }
  world.last.say("hb", { now_ms: 1 }, "aa-5");
  const before = world.sources.length;
  world.last.fail(0);
  world.pass(RETRY_FIRST_MS + 1);
  assert.equal(world.sources.length, before + 1);
});

test("a connection that died without a word is opened again", () => {
  const world = browser();
  page(world);
  world.last.onopen();
  world.pass(DEAD_MS - 1);
  assert.equal(world.sources.length, 1);
  world.pass(2);
  assert.equal(world.sources.length, 2);
  assert.equal(world.sources[0].readyState, 2, "the dead one is closed");
});

test("a refused stream with a dead session ends in signed out, and stays so", async () => {
  const world = browser({ signed_in: false });
  const { stream, seen } = page(world);
  world.last.fail(2);
  await settled();
  assert.equal(seen.steps.at(-1), "signed_out");
  world.pass(60_000);
  stream.wake();
  stream.now();
  assert.equal(world.sources.length, 1);
});

test("a refused stream with a live session is tried again", async () => {
  const world = browser();
  const { seen } = page(world);
  world.last.fail(2);
  await settled();
  world.pass(RETRY_FIRST_MS + 1);
  assert.equal(world.sources.length, 2);
  assert.ok(!seen.steps.includes("signed_out"));
});

test("bye: a restart is waited out, the end of the session is not", () => {
  const restart = browser();
  page(restart);
  restart.last.say("bye", { reason: "restart" });
  restart.pass(RETRY_FIRST_MS * 2);
  assert.equal(restart.sources.length, 2);
  const over = browser();
  const { seen } = page(over);
  over.last.say("bye", { reason: "auth" });
  over.pass(60_000);
  assert.equal(over.sources.length, 1);
  assert.equal(seen.steps.at(-1), "signed_out");
});

test("a parked stream lets go, and a page that wakes comes back from where it was", () => {
  const world = browser();
  const { stream, seen } = page(world);
  world.last.say("agents", { k: "iris", d: {} }, "aa-9");
  stream.park();
  assert.equal(world.last.readyState, 2);
  assert.equal(seen.steps.at(-1), "parked");
  world.pass(10 * DEAD_MS);
  assert.equal(world.sources.length, 1, "parked means parked");
  stream.wake();
  assert.equal(world.last.url.searchParams.get("from"), "aa-9");
});

test("waking leaves a stream that was heard lately alone, and replaces one that was not", () => {
  const world = browser();
  const { stream } = page(world);
  world.last.onopen();
  world.pass(1_000);
  stream.wake();
  assert.equal(world.sources.length, 1);
  world.pass(25_000);
  stream.wake();
  assert.equal(world.sources.length, 2);
});

test("an error of a connection that was replaced changes nothing", () => {
  const world = browser();
  const { stream } = page(world);
  const old = world.last;
  stream.now();
  old.onerror();
  world.pass(RETRY_MAX_MS * 2);
  assert.equal(world.sources.length, 2);
});
