/**
 * Everything the page shows, as signals: filled from the boot block and the stream, read by the panes.
 * Agents are one signal each, so that a change draws one row. Tail and journal have models of their own.
 */
import { batch, computed, signal } from "../signals.js";
import { now_ms, setServerTime } from "./clock.js";
import { judge, opening } from "./link.js";
import { extended, merge, message_id, renewed, trimmed, wanting } from "./rows.js";

/** @import {Account, Agent, Arrival, Broken, Build, Deployment, EgressRefusal, LimitHit, Hive, Kept, Message, ParkedThread, Proposal, Question, Reminder, Snapshot} from "../types/wire" */
/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {Link} from "./link.js" */
/** @import {Window} from "./rows.js" */

/** More messages than this are not kept in the page; older ones load again. */
export const MESSAGES_KEPT_MAX = 2_000;
/** A snapshot with fewer messages than this holds all there are. */
const SNAPSHOT_MESSAGES = 100;
const DEAD_SHOWN_MS = 24 * 3_600_000;

/** @type {Signal<Hive | null>} */
export const hive = signal(null);
/**
 * By name; the map is replaced when an agent comes or goes, a row's signal when it changes.
 * @type {Signal<ReadonlyMap<string, Signal<Agent>>>}
 */
export const agents = signal(new Map());
/** @type {Signal<Window<Message>>} */
export const flow = signal({ rows: [], more: false });
/** Messages that ask for the operator but are older than the window. @type {Signal<Message[]>} */
const aside = signal([]);
/** Where the page stands in the stream. */
export const cursor = signal("");
/** @type {Signal<Link>} */
export const link = signal(opening(Date.now()));
/** What the snapshot before the last one was followed by: "gap" or "slow" means that rows may have been let go. */
export const resumed = signal("");

export const judged = computed(() => judge(link.value, now_ms.value && Date.now()));

/** Manager first, then by name: an order that only a coming or going agent changes. */
export const names = computed(() =>
  [...agents.value.values()]
    .map((agent) => agent.peek())
    .sort((a, b) => Number(b.role === "manager") - Number(a.role === "manager") || a.name.localeCompare(b.name))
    .map((agent) => agent.name),
);

export const manager = computed(
  () => [...agents.value.values()].find((agent) => agent.peek().role === "manager")?.peek().name ?? "",
);

const TROUBLED = new Set(["crashed", "failed", "parked"]);

/** @type {Agent[]} */
let lastTroubled = [];

/** Agents that stay as they are until the operator does something, longest first; the same list while they are the same. */
export const troubled = computed(() => {
  const found = [...agents.value.values()]
    .map((agent) => agent.value)
    .filter((agent) => TROUBLED.has(agent.state))
    .sort((a, b) => a.since_ms - b.since_ms);
  const same = found.length === lastTroubled.length && found.every((agent, i) => agent === lastTroubled[i]);
  if (!same) lastTroubled = found;
  return lastTroubled;
});

/** Dead deliveries the operator has put aside in this browser. @type {Signal<ReadonlySet<number>>} */
export const dismissed = signal(new Set());

/** Messages for the operator, longest waiting first. */
export const letters = computed(() => {
  const known = merge(aside.value, flow.value.rows, message_id);
  return wanting(known, now_ms.peek() - DEAD_SHOWN_MS).filter((message) => !dismissed.value.has(message.id));
});

/** @template T @typedef {Signal<ReadonlyMap<string, T>>} Rows   by the key of the stream */

/** @type {Rows<Question | Broken>} */
export const questions = signal(new Map());
/** @type {Rows<ParkedThread>} */
export const parked = signal(new Map());
/** Those that are due soonest. @type {Rows<Reminder>} */
export const reminders = signal(new Map());
/** What destroyed agents left. @type {Rows<Kept>} */
export const kept = signal(new Map());

/** @type {Rows<Account>} */
export const accounts = signal(new Map());
/** Agents that were turned away on their way out, lately. @type {Rows<EgressRefusal>} */
export const refusals = signal(new Map());
/** What cages ran out of, by agent and resource. @type {Rows<LimitHit>} */
export const limits = signal(new Map());

/** Agents that are configured and were never spawned. @type {Rows<Kept>} */
export const drafts = signal(new Map());
/** By agent and number, `iris/3`; a proposal, its deployment and that one's log have the same key. @type {Rows<Proposal>} */
export const proposals = signal(new Map());
/** @type {Rows<Deployment>} */
export const deployments = signal(new Map());
/** @type {Rows<Build>} */
export const builds = signal(new Map());

/** @type {Record<string, Signal<ReadonlyMap<string, any>>>} */
const STATES = { questions, parked, reminders, accounts, refusals, limits, kept, drafts, proposals, deployments, builds };

/** Proposals that wait for the operator, the oldest first. */
export const proposed = computed(() =>
  [...proposals.value.values()].filter((row) => row.state === "open").sort((a, b) => a.proposed_ms - b.proposed_ms),
);

const whole = computed(() => [...questions.value.values()].filter((row) => !("fault" in row)));

/** Questions that wait for the operator, the oldest first. */
export const asked = computed(() =>
  /** @type {Question[]} */ (whole.value)
    .filter((row) => row.state === "open" && row.asked_of === "operator")
    .sort((a, b) => a.asked_ms - b.asked_ms || a.id - b.id),
);

/** Questions between agents that nobody has answered yet, the oldest first. */
export const between = computed(() =>
  /** @type {Question[]} */ (whole.value)
    .filter((row) => row.state === "open" && row.asked_of !== "operator")
    .sort((a, b) => a.asked_ms - b.asked_ms || a.id - b.id),
);

/** Questions that ended a while ago, the last one first. */
export const ended = computed(() =>
  /** @type {Question[]} */ (whole.value)
    .filter((row) => row.state !== "open")
    .sort((a, b) => (b.ended_ms ?? 0) - (a.ended_ms ?? 0)),
);

/** Questions that cannot be read. */
export const broken = computed(() =>
  /** @type {Broken[]} */ ([...questions.value.values()].filter((row) => "fault" in row)),
);

export const callCount = computed(
  () =>
    troubled.value.length +
    letters.value.length +
    parked.value.size +
    asked.value.length +
    broken.value.length +
    proposed.value.length,
);

/** @param {string} name */
export const agentNow = (name) => agents.value.get(name)?.value ?? null;

/**
 * @param {Snapshot} snapshot
 * @param {string} at
 */
export function takeSnapshot({ why, now_ms: server_ms, topics }, at) {
  batch(() => {
    setServerTime(server_ms);
    if (topics.hive) hive.value = topics.hive.hive;
    if (topics.agents) agents.value = renewedAgents(topics.agents);
    if (topics.flow) takeFlow(topics.flow, topics.unread ?? []);
    for (const [topic, rows] of Object.entries(STATES)) {
      const told = topics[topic];
      if (told) rows.value = new Map(Object.entries(told));
    }
    resumed.value = why;
    cursor.value = at;
  });
}

/** @param {Record<string, Agent>} rows */
function renewedAgents(rows) {
  const before = agents.peek();
  return new Map(
    Object.entries(rows).map(([name, row]) => {
      const known = before.get(name) ?? signal(row);
      known.value = row;
      return [name, known];
    }),
  );
}

/**
 * @param {Message[]} newest
 * @param {Message[]} unread
 */
function takeFlow(newest, unread) {
  flow.value = renewed(flow.peek(), newest, newest.length < SNAPSHOT_MESSAGES, message_id);
  aside.value = unread;
}

/** @param {Arrival} arrival */
export function take({ topic, key, data }) {
  if (topic === "hive") hive.value = /** @type {Hive} */ (data);
  else if (topic === "agents" && key !== null) takeAgent(key, /** @type {Agent | null} */ (data));
  else if (topic === "flow") takeMessage(/** @type {Message} */ (data));
  else if (topic in STATES && key !== null) takeRow(STATES[topic], key, data);
}

/**
 * @param {Signal<ReadonlyMap<string, unknown>>} rows
 * @param {string} key
 * @param {unknown} row      null: gone
 */
function takeRow(rows, key, row) {
  const next = new Map(rows.peek());
  if (row === null) next.delete(key);
  else next.set(key, row);
  rows.value = next;
}

/**
 * @param {string} name
 * @param {Agent | null} row
 */
function takeAgent(name, row) {
  const known = agents.peek().get(name);
  if (row && known) {
    known.value = row;
    return;
  }
  const next = new Map(agents.peek());
  if (row) next.set(name, signal(row));
  else next.delete(name);
  agents.value = next;
}

/** @param {Message} message */
function takeMessage(message) {
  const { rows } = flow.peek();
  if (rows.length && message.id < rows[0].id) {
    aside.value = merge(aside.peek(), [message], message_id); // older than the window: only its state matters here
    return;
  }
  flow.value = trimmed({ ...flow.peek(), rows: merge(rows, [message], message_id) }, MESSAGES_KEPT_MAX);
}

/**
 * @param {Message[]} older
 * @param {boolean} more
 */
export function takeOlder(older, more) {
  flow.value = extended(flow.peek(), older, more, message_id);
}
