/**
 * Proposals as the operator looks at them: each is shown by privd once, on its own page, and can be approved as it was
 * shown for a while. What is deployed meanwhile makes it another thing: then it is to be looked at again.
 */
import { signal } from "../signals.js";
import { get } from "../act/post.js";
import { serverNow } from "./clock.js";
import { deployments } from "./store.js";

/** @import {ProposalPage} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */

/** A page that has so little time left is fetched again before it is approved. */
const SPARE_MS = 30_000;

/**
 * @typedef {object} Looked
 * @property {ProposalPage | null} page   null: not shown yet
 * @property {string | null} over         the key of the agent's newest deployment when it was shown
 * @property {boolean} changed            it is another thing than when the operator looked before
 * @property {string} fault
 */

/** @type {Map<string, Signal<Looked>>} */
const known = new Map();
/** One after the other: each takes privd a process. @type {Promise<unknown>} */
let queue = Promise.resolve();

/** @param {string} agent @param {number} number @returns {Signal<Looked>} */
export function looked(agent, number) {
  const key = `${agent}/${number}`;
  let found = known.get(key);
  if (!found) known.set(key, (found = signal({ page: null, over: null, changed: false, fault: "" })));
  return found;
}

/**
 * Have it shown (again).
 * @param {string} agent
 * @param {number} number
 * @returns {Promise<ProposalPage | null>}   null: it cannot be shown, and the page says why
 */
export function look(agent, number) {
  const mine = looked(agent, number);
  const asked = queue.then(async () => {
    const before = mine.peek();
    const over = newest(agent);
    try {
      /** @type {ProposalPage} */
      const page = await get(`/api/v1/agents/${agent}/proposals/${number}`);
      const changed = before.changed || (before.page !== null && isOther(before.page, page));
      mine.value = { page, over, changed, fault: "" };
      return page;
    } catch (problem) {
      mine.value = { ...before, fault: /** @type {Error} */ (problem).message };
      return null;
    }
  });
  queue = asked;
  return asked;
}

/** The operator has seen that it changed. @param {string} agent @param {number} number */
export function seen(agent, number) {
  const mine = looked(agent, number);
  mine.value = { ...mine.peek(), changed: false };
}

/**
 * The page to approve: the one that was looked at, or the same anew when its time is nearly over. null: what is to be
 * approved is not what was looked at.
 * @param {string} agent
 * @param {number} number
 */
export async function stillSame(agent, number) {
  const { page } = looked(agent, number).peek();
  if (!page) return null;
  if (until_ms(page) - serverNow() > SPARE_MS) return page;
  const anew = await look(agent, number);
  return anew && !isOther(page, anew) ? anew : null;
}

/** Whether something was deployed since it was shown. @param {Looked} it @param {string} agent */
export const isStale = (it, agent) => it.page !== null && newest(agent) !== it.over;

/** @param {ProposalPage} before @param {ProposalPage} now */
const isOther = (before, now) =>
  before.current_base !== now.current_base ||
  before.proposal.commit !== now.proposal.commit ||
  before.proposal.tree !== now.proposal.tree;

/** @param {ProposalPage} page */
const until_ms = ({ document }) => (document ? /** @type {{until_ms: number}} */ (JSON.parse(document)).until_ms : 0);

/** What was deployed last for an agent, as a key. @param {string} agent */
function newest(agent) {
  const live = [...deployments.value.values()].filter((row) => row.agent === agent && row.state === "deployed");
  return live.length ? `${agent}/${Math.max(...live.map((row) => row.number))}` : null;
}
