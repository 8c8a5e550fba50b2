/** Proposals and deployments in words. Pure. */

/** @import {CapabilityChange, Deployment, Proposal} from "../types/wire" */

const COMMIT_SHOWN = 7;

/** @param {string} commit */
export const short = (commit) => commit.slice(0, COMMIT_SHOWN);

/** `opus (new)`, `sonnet → opus`, `not any more (was opus)`. @param {CapabilityChange} change */
export function changeWords({ before, after }) {
  if (before === null) return `${after ?? ""} (new)`;
  if (after === null) return `not any more (was ${before})`;
  return `${before} → ${after}`;
}

/** @type {Record<Deployment["kind"], string>} */
const KIND = { init: "draft", spawn: "spawn", config: "config", rollback: "back" };

/** `config 3`, `back 5, to 3`. @param {Deployment} row */
export const deploymentWords = ({ kind, number, of }) => `${KIND[kind]} ${number}${of === null ? "" : `, to ${of}`}`;

/** @param {Deployment} row */
export const runs = (row) => row.ended_ms === null;

/** Nothing has been switched yet: it may be given up. @param {Deployment} row */
export const isGivableUp = (row) => row.state === "waiting" || row.state === "building";

/** What each agent lives by: the number of its newest generation. @param {Iterable<Deployment>} rows */
export function generations(rows) {
  /** @type {Map<string, number>} */
  const newest = new Map();
  for (const { agent, number, state, kind } of rows) {
    if (state === "deployed" && kind !== "init") newest.set(agent, Math.max(number, newest.get(agent) ?? 0));
  }
  return newest;
}

/** Whether its content can be deployed again. @param {Deployment} row @param {Map<string, number>} newest */
export const isOlder = (row, newest) =>
  row.state === "deployed" && row.kind !== "init" && row.number < (newest.get(row.agent) ?? 0);

/** Proposals that ended without ever being deployed: denied, withdrawn, expired. @param {Proposal} row */
export const cameToNothing = (row) => row.state === "denied" || row.state === "withdrawn" || row.state === "expired";

/**
 * What has ended, the newest first: deployments, and proposals that never became one.
 * @param {Iterable<Deployment>} deployments
 * @param {Iterable<Proposal>} proposals
 * @returns {({at_ms: number, key: string} & ({deployment: Deployment, proposal?: undefined} | {proposal: Proposal, deployment?: undefined}))[]}
 */
export function history(deployments, proposals) {
  const done = [...deployments]
    .filter((row) => !runs(row))
    .map((deployment) => ({ at_ms: deployment.ended_ms ?? 0, key: `d ${deployment.agent}/${deployment.number}`, deployment }));
  const not = [...proposals]
    .filter(cameToNothing)
    .map((proposal) => ({ at_ms: proposal.decided_ms ?? 0, key: `p ${proposal.agent}/${proposal.number}`, proposal }));
  return [...done, ...not].sort((a, b) => b.at_ms - a.at_ms || a.key.localeCompare(b.key));
}
