/**
 * What the page knows about its link to webd, as plain values: one record, one step function, one judgement.
 * No timers and no EventSource here: stream.js feeds it, the strip and the banner read it.
 */

/**
 * @typedef {"opening" | "open" | "broken" | "parked" | "signed_out"} Phase
 * @typedef {object} Link
 * @property {Phase} phase
 * @property {number} heard_ms    when anything last came from webd (the page's own clock)
 * @property {number} since_ms    when this phase began
 * @property {number} retry_ms    when the next try is due; 0 when none is
 * @typedef {"live" | "slow" | "lost" | "opening" | "parked" | "signed out"} Word
 * @typedef {object} Judgement
 * @property {Word} word
 * @property {boolean} banner     the reader must be told that what is shown may be old
 * @property {boolean} usable     actions may be sent
 * @property {number} silent_ms   how long nothing came
 */

export const HEARTBEAT_MS = 15_000;
/** A heartbeat may be this late before the link counts as slow. */
export const SLOW_MS = HEARTBEAT_MS + 5_000;
/** Two heartbeats and some: the connection is dead though nobody said so. */
export const DEAD_MS = 2 * HEARTBEAT_MS + 5_000;
/** A shorter loss is not worth a banner. */
export const BANNER_MS = 2_000;

/**
 * @param {number} now_ms
 * @returns {Link}
 */
export const opening = (now_ms) => ({ phase: "opening", heard_ms: now_ms, since_ms: now_ms, retry_ms: 0 });

/**
 * @typedef {{kind: "opened" | "heard" | "parked" | "signed_out", now_ms: number}
 *         | {kind: "broken", now_ms: number, retry_ms: number}} Step
 */

/**
 * @param {Link} link
 * @param {Step} step
 * @returns {Link}
 */
export function after(link, step) {
  const { now_ms } = step;
  if (link.phase === "signed_out") return link;
  switch (step.kind) {
    case "opened":
      return { phase: "open", heard_ms: now_ms, since_ms: now_ms, retry_ms: 0 };
    case "heard":
      return link.phase === "open"
        ? { ...link, heard_ms: now_ms }
        : { phase: "open", heard_ms: now_ms, since_ms: now_ms, retry_ms: 0 };
    case "broken":
      return {
        ...link,
        phase: "broken",
        since_ms: link.phase === "broken" ? link.since_ms : now_ms,
        retry_ms: step.retry_ms,
      };
    case "parked":
    case "signed_out":
      return { ...link, phase: step.kind, since_ms: now_ms, retry_ms: 0 };
  }
}

/**
 * @param {Link} link
 * @param {number} now_ms
 * @returns {Judgement}
 */
export function judge(link, now_ms) {
  const silent_ms = Math.max(0, now_ms - link.heard_ms);
  const in_phase_ms = now_ms - link.since_ms;
  switch (link.phase) {
    case "opening":
      return { word: "opening", banner: in_phase_ms >= BANNER_MS, usable: true, silent_ms };
    case "open":
      if (silent_ms >= DEAD_MS) return { word: "lost", banner: true, usable: false, silent_ms };
      return { word: silent_ms >= SLOW_MS ? "slow" : "live", banner: false, usable: true, silent_ms };
    case "broken":
      return { word: "lost", banner: in_phase_ms >= BANNER_MS, usable: in_phase_ms < BANNER_MS, silent_ms };
    case "parked":
      return { word: "parked", banner: false, usable: true, silent_ms };
    case "signed_out":
      return { word: "signed out", banner: true, usable: false, silent_ms };
  }
}
