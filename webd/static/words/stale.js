/** Cages that still run what was before, in words. Pure. */

/** @import {Agent} from "../types/wire" */

const NAMED_MAX = 5;

/**
 * Who is stale for the same reason, by that reason; in the order of the agents.
 * @param {Iterable<Pick<Agent, "name" | "stale">>} agents
 * @returns {Map<string, string[]>}
 */
export function staleTogether(agents) {
  /** @type {Map<string, string[]>} */
  const found = new Map();
  for (const { name, stale } of agents) {
    if (stale) found.set(stale, [...(found.get(stale) ?? []), name]);
  }
  return found;
}

/**
 * Whom to name, and how many more there are: one more name takes no more room than "and 1 other".
 * @param {readonly string[]} names
 * @returns {{named: readonly string[], others: number}}
 */
export function fewNames(names) {
  const named = names.length > NAMED_MAX + 1 ? names.slice(0, NAMED_MAX) : names;
  return { named, others: names.length - named.length };
}
