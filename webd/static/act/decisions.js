/** What the operator decides: proposals, deployments, and an agent spawned by its name. */
import { doing } from "./deeds.js";
import { tell } from "./toasts.js";

/** @import {Deployment, Proposal} from "../types/wire" */

/** @typedef {{agent: string, number: number}} Place */

/** The names of deeds, by which their buttons spin together. */
export const deedOf = {
  approve: (/** @type {Place} */ { agent, number }) => `approve ${agent}/${number}`,
  deny: (/** @type {Place} */ { agent, number }) => `deny ${agent}/${number}`,
  withdraw: (/** @type {Place} */ { agent, number }) => `withdraw ${agent}/${number}`,
  cancel: (/** @type {Place} */ { agent, number }) => `cancel ${agent}/${number}`,
  rollBack: (/** @type {Place} */ { agent, number }) => `roll back ${agent}/${number}`,
};

/**
 * Approve what was shown with this digest.
 * @param {Proposal} proposal
 * @param {string} digest
 * @param {() => Promise<object>} prove   what proves that it is the operator: the click, or what a passkey signs
 */
export async function approve(proposal, digest, prove) {
  const { agent, number } = proposal;
  const path = `/api/v1/agents/${agent}/proposals/${number}/approve`;
  const answer = await doing(deedOf.approve(proposal), path, async () => ({ digest, proof: await prove() }), {
    refused: `${agent} is not approved`,
  });
  if (answer) tell(answer.waits ? `${agent}: approved, and another key must agree` : `${agent} is approved`);
  return answer;
}

/** @param {Proposal} proposal @param {string} reason */
export const deny = (proposal, reason) =>
  doing(
    deedOf.deny(proposal),
    `/api/v1/agents/${proposal.agent}/proposals/${proposal.number}/deny`,
    { reason },
    { said: `proposal ${proposal.number} of ${proposal.agent} is denied`, refused: "not denied" },
  );

/** @param {Proposal} proposal */
export const withdraw = (proposal) =>
  doing(
    deedOf.withdraw(proposal),
    `/api/v1/agents/${proposal.agent}/proposals/${proposal.number}/withdraw`,
    {},
    { said: `proposal ${proposal.number} of ${proposal.agent} is taken back`, refused: "not taken back" },
  );

/** @param {Deployment} deployment */
export const cancelDeployment = (deployment) =>
  doing(
    deedOf.cancel(deployment),
    `/api/v1/agents/${deployment.agent}/deployments/${deployment.number}/cancel`,
    {},
    { said: `deployment ${deployment.number} of ${deployment.agent} is given up`, refused: "not cancelled" },
  );

/** @param {Deployment} deployment   the generation to go back to */
export const rollBack = (deployment) =>
  doing(
    deedOf.rollBack(deployment),
    `/api/v1/agents/${deployment.agent}/roll-back`,
    { generation: deployment.number },
    { said: `${deployment.agent} goes back to generation ${deployment.number}`, refused: "not rolled back" },
  );

/**
 * An agent by its name: proposed and, where a click is enough, approved at once.
 * @param {string} name
 * @param {{runner?: string, template?: string}} [from]   without: what a destroyed one was, else the hive's settings
 */
export async function spawn(name, from = {}) {
  const answer = await doing(`spawn ${name}`, "/api/v1/agents", { name, ...from }, { refused: `${name} is not spawned` });
  if (answer) tell(answer.waits ? `${name} waits in Y3R C4LL for a key that approves it` : `${name} is being made`);
  return answer;
}
