/**
 * One live stream per page: resumes without gaps, survives sleep, leaves other tabs their connections.
 *
 * EventSource's own retry is not used: it hides the wait, knows no limit and cannot tell "signed out" from "away".
 * After a loss the stream is opened again `from` the last cursor; webd replays or sends a snapshot.
 */
import { DEAD_MS, HEARTBEAT_MS } from "./link.js";

/** @import {Step} from "./link.js" */
/** @import {Arrival, Snapshot} from "../types/wire" */

export const RETRY_FIRST_MS = 400;
export const RETRY_MAX_MS = 3_000;
/** A hidden tab keeps its connection this long, then lets go of it. */
const PARK_MS = 30_000;

/**
 * @typedef {object} World     what the browser gives; a test gives something else
 * @property {(url: string) => EventSource} open
 * @property {(run: () => void, delay_ms: number) => number} later
 * @property {(timer: number) => void} cancel
 * @property {() => number} now_ms
 * @property {() => number} random
 * @property {() => Promise<boolean>} signed_in     asked when a stream was refused
 *
 * @typedef {object} Wish
 * @property {string[]} topics
 * @property {string} cursor                        where the page's boot block ends; "" asks for a snapshot
 * @property {(snapshot: Snapshot, cursor: string) => void} snapshot
 * @property {(arrival: Arrival, cursor: string) => void} arrival
 * @property {(now_ms: number, cursor: string) => void} heartbeat
 * @property {(step: Step) => void} link
 */

/**
 * @param {Wish} wish
 * @param {World} world
 */
export function openStream(wish, world) {
  let { cursor } = wish;
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;
  let wait_ms = RETRY_FIRST_MS;
  let heard_ms = world.now_ms();
  let ended = false;

  function watch() {
    world.cancel(timer);
    timer = world.later(reopen, DEAD_MS);
  }

  /** @param {"opened" | "heard"} kind */
  function heard(kind) {
    heard_ms = world.now_ms();
    wish.link({ kind, now_ms: heard_ms });
    watch();
  }

  /** @param {(data: any) => void} take */
  const taking = (take) => (/** @type {MessageEvent} */ event) => {
    if (event.lastEventId) cursor = event.lastEventId;
    wait_ms = RETRY_FIRST_MS;
    heard("heard");
    take(JSON.parse(event.data));
  };

  function close() {
    world.cancel(timer);
    source?.close();
    source = null;
  }

  function signOut() {
    ended = true;
    close();
    wish.link({ kind: "signed_out", now_ms: world.now_ms() });
  }

  function retry(least_ms = 0) {
    close();
    const delay_ms = Math.max(least_ms, wait_ms) * (0.75 + world.random() / 2);
    wait_ms = Math.min(wait_ms * 2, RETRY_MAX_MS);
    const now_ms = world.now_ms();
    wish.link({ kind: "broken", now_ms, retry_ms: now_ms + delay_ms });
    timer = world.later(reopen, delay_ms);
  }

  /** @param {EventSource} refused */
  async function refusedOrLost(refused) {
    const answered = refused.readyState === 2; // CLOSED: webd answered, and not with a stream
    retry();
    if (answered && !(await world.signed_in()) && !ended) signOut();
  }

  function reopen() {
    if (ended) return;
    close();
    const query = new URLSearchParams({ topics: wish.topics.join(",") });
    if (cursor) query.set("from", cursor);
    const opened = (source = world.open(`/api/v1/stream?${query}`));
    watch();
    opened.onopen = () => heard("opened");
    opened.onerror = () => void (opened === source && refusedOrLost(opened));
    opened.addEventListener(
      "snapshot",
      taking((data) => wish.snapshot(data, cursor)),
    );
    opened.addEventListener(
      "hb",
      taking((data) => wish.heartbeat(data.now_ms, cursor)),
    );
    opened.addEventListener(
      "bye",
      taking((data) => (data.reason === "auth" ? signOut() : retry(RETRY_FIRST_MS))),
    );
    for (const topic of wish.topics) {
      opened.addEventListener(
        topic,
        taking((data) => wish.arrival({ topic, key: data.k ?? null, data: data.d }, cursor)),
      );
    }
  }

  reopen();
  return {
    /** Try now instead of waiting. */
    now() {
      wait_ms = RETRY_FIRST_MS;
      reopen();
    },
    /** The page woke up, or the network came back: a socket silent for longer than a heartbeat may be dead. */
    wake() {
      if (!ended && (!source || world.now_ms() - heard_ms > HEARTBEAT_MS * 1.2)) reopen();
    },
    park() {
      if (ended || !source) return;
      close();
      wish.link({ kind: "parked", now_ms: world.now_ms() });
    },
    signOut,
    get parked() {
      return !ended && !source;
    },
  };
}

/**
 * HTTP/1 gives a browser six connections for all tabs of a hive, so hidden tabs let go of theirs, except the
 * one that holds the lock: it goes on counting what waits for the operator.
 * @param {ReturnType<typeof openStream>} stream
 */
export function followVisibility(stream) {
  const [navigation] = performance.getEntriesByType("navigation");
  const scarce = navigation instanceof PerformanceNavigationTiming && navigation.nextHopProtocol === "http/1.1";
  let keeper = false;
  let timer = 0;
  // Locks exist in secure contexts only; without them every hidden tab parks.
  void navigator.locks?.request("hive-stream", () => new Promise(() => void (keeper = true)));
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) stream.wake();
    else if (scarce) timer = window.setTimeout(() => !keeper && document.hidden && stream.park(), PARK_MS);
  });
  addEventListener("online", () => stream.wake());
  addEventListener("pagehide", () => stream.park());
  addEventListener("pageshow", (event) => event.persisted && stream.wake());
}

/** @type {World} */
export const browser = {
  open: (url) => new EventSource(url),
  later: (run, delay_ms) => window.setTimeout(run, delay_ms),
  cancel: (timer) => clearTimeout(timer),
  now_ms: () => Date.now(),
  random: () => Math.random(),
  async signed_in() {
    try {
      return (await fetch("/api/state?topics=hive", { cache: "no-store" })).status !== 401;
    } catch {
      return true; // webd is away: that says nothing about the session
    }
  },
};
