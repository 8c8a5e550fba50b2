/**
 * Between the stream and the store: arrivals wait for the next frame and are applied together, so that fifty events a
 * second draw at most once a frame. Readers of the tail measure just before (`beforeApply`).
 */
import { batch } from "../signals.js";
import { cursor, take, takeSnapshot } from "./store.js";

/** @import {Arrival, Snapshot} from "../types/wire" */

/** A hidden tab draws no frames; arrivals are applied this often then. */
const HIDDEN_MS = 250;

/**
 * An arrival, a snapshot, or only how far the stream has come.
 * @typedef {{at: string, arrival?: Arrival, snapshot?: Snapshot}} Waiting
 */

/** @type {Waiting[]} */
let waiting = [];
let scheduled = false;
/** @type {Set<() => void>} */
const before = new Set();
/** @type {Map<string, {take: (data: any) => void, renew: (data: any) => void}>} */
const models = new Map();

/**
 * @param {() => void} measure   called before arrivals are applied
 * @returns {() => void}         stops it
 */
export function beforeApply(measure) {
  before.add(measure);
  return () => void before.delete(measure);
}

/**
 * A topic with a model of its own (a tail, a journal).
 * @param {string} topic
 * @param {{take: (data: any) => void, renew: (data: any) => void}} model
 */
export function feed(topic, model) {
  models.set(topic, model);
}

/** @param {Waiting} item */
export function accept(item) {
  waiting.push(item);
  if (scheduled) return;
  scheduled = true;
  if (document.hidden) setTimeout(apply, HIDDEN_MS);
  else requestAnimationFrame(apply);
}

function apply() {
  scheduled = false;
  const items = waiting;
  waiting = [];
  for (const measure of before) measure();
  batch(() => items.forEach(applyOne));
}

/** @param {Waiting} item */
function applyOne({ arrival, snapshot, at }) {
  if (snapshot) {
    applySnapshot(snapshot, at);
    return;
  }
  if (arrival) {
    const model = models.get(arrival.topic);
    if (model) model.take(arrival.data);
    else take(arrival);
  }
  cursor.value = at;
}

/**
 * @param {Snapshot} snapshot
 * @param {string} at
 */
export function applySnapshot(snapshot, at) {
  takeSnapshot(snapshot, at);
  for (const [topic, model] of models) if (snapshot.topics[topic]) model.renew(snapshot.topics[topic]);
}

/** A page that is being hidden gets no more frames: what waits is applied now. */
export function applyWhenHidden() {
  document.addEventListener("visibilitychange", () => document.hidden && scheduled && apply());
}
