/**
 * What the operator can do, each under one name: while a deed is under way every button for it spins, and it is over
 * when the stream has shown what it caused.
 */
import { effect, signal } from "../signals.js";
import { passed } from "../live/cursor.js";
import { cursor, dismissed, judged } from "../live/store.js";
import { newKey, post, Refusal } from "./post.js";
import { tell } from "./toasts.js";

/** @import {Signal} from "../vendor/signals-core.js" */
/** @import {Message} from "../types/wire" */
/** @import {Did} from "./post.js" */

/** A spinner does not outlive the reply by more than this, should the stream not tell. */
const SETTLE_MS = 3_000;

/** Names of the deeds under way. @type {Signal<ReadonlySet<string>>} */
export const underWay = signal(new Set());
/** Set by the page: what to do when webd says that the session is over. */
export const session = { onSignedOut: () => {} };

/**
 * @param {string} name
 * @param {string} path
 * @param {Record<string, unknown> | (() => Promise<Record<string, unknown>>)} body   or how it is made, which may be refused
 * @param {{said?: string, refused?: string}} [words]   told when it is done; what stands before the reason of a no
 * @returns {Promise<Did | null>}   null when it was refused: the operator has been told why
 */
export async function doing(name, path, body, { said, refused = name } = {}) {
  if (underWay.peek().has(name)) return null;
  if (!judged.peek().usable) {
    tell("the link to webd is lost: nothing can be sent now", { bad: true });
    return null;
  }
  underWay.value = new Set([...underWay.peek(), name]);
  try {
    const whole = typeof body === "function" ? await body() : body;
    const answer = await post(path, { key: newKey(), ...whole });
    await shown(answer.seq);
    if (said) tell(said);
    return answer;
  } catch (problem) {
    if (!(problem instanceof Refusal)) throw problem;
    if (problem.problem === "signed_out") session.onSignedOut();
    else tell(`${refused}: ${problem.message}`, { bad: true });
    return null;
  } finally {
    const rest = new Set(underWay.peek());
    rest.delete(name);
    underWay.value = rest;
  }
}

/**
 * Until the stream has passed `seq`.
 * @param {string} seq
 * @returns {Promise<void>}
 */
function shown(seq) {
  return new Promise((resume) => {
    const timer = setTimeout(resume, SETTLE_MS);
    /** @type {(() => void) | undefined} */
    let stop;
    stop = effect(() => {
      if (!passed(cursor.value, seq)) return;
      clearTimeout(timer);
      queueMicrotask(() => stop?.());
      resume();
    });
    setTimeout(() => stop?.(), SETTLE_MS);
  });
}

/** @typedef {"start" | "stop" | "restart" | "destroy"} Power */

/** @type {Record<Power, string>} */
const DONE = {
  start: "is starting",
  stop: "is stopping",
  restart: "is restarting",
  destroy: "is destroyed; its state is kept",
};

/**
 * @param {Power} power
 * @param {string} agent
 */
export const wield = (power, agent) =>
  doing(`${power} ${agent}`, `/api/v1/agents/${agent}/${power}`, {}, { said: `${agent} ${DONE[power]}` });

/** @param {string} agent */
export const cancelTurn = (agent) =>
  doing(
    `cancel ${agent}`,
    `/api/v1/agents/${agent}/cancel-turn`,
    {},
    { said: `${agent}: the turn is being cancelled` },
  );

/** @param {string} agent */
export const purge = (agent) =>
  doing(
    `purge ${agent}`,
    `/api/v1/agents/${agent}/purge`,
    { confirm: agent },
    { said: `${agent} is purged: nothing of it is kept` },
  );

/**
 * @param {string} name     of the deed: the place it is sent from
 * @param {{to: string, body: string, in_reply_to?: number, key: string}} message
 */
export const send = (name, message) => doing(name, "/api/v1/send", message, { refused: "not sent" });

/** @param {Message} message */
export const markRead = (message) =>
  doing(`read ${message.id}`, `/api/v1/messages/${message.id}/read`, {}, { refused: `#${message.id} is still unread` });

/** @param {Message[]} messages */
export const markAllRead = (messages) =>
  doing("read all", "/api/v1/messages/read", { messages: messages.map((message) => message.id) });

/**
 * @param {number} question
 * @param {{answer: string, choices: string[], key: string}} said
 */
export const answer = (question, said) =>
  doing(`answer ${question}`, `/api/v1/questions/${question}/answer`, said, { refused: "not answered" });

/**
 * @param {"release" | "close"} how
 * @param {number} thread
 */
export const settleThread = (how, thread) =>
  doing(
    `${how} thread ${thread}`,
    `/api/v1/threads/${thread}/${how}`,
    {},
    { said: how === "release" ? `thread #${thread} goes on` : `thread #${thread} is closed: what it held is dead` },
  );

/** @param {Message} message   every dead delivery of it goes back into its recipient's queue */
export async function retry(message) {
  for (const { id, state } of message.deliveries) {
    if (state !== "dead") continue;
    const name = `retry ${message.id}`;
    if (!(await doing(name, `/api/v1/deliveries/${id}/retry`, {}, { refused: `#${message.id} stays dead` }))) return;
  }
}

/**
 * @param {"pause" | "resume"} how
 * @param {string} agent
 */
export const pause = (how, agent) =>
  doing(
    `${how} ${agent}`,
    `/api/v1/agents/${agent}/${how}`,
    {},
    { said: how === "pause" ? `${agent} is paused: its mail waits` : `${agent} goes on` },
  );

/**
 * @param {string} agent
 * @param {string | null} model   of its next turns; null: what its settings say
 */
export const chooseModel = (agent, model) =>
  doing(
    `model of ${agent}`,
    `/api/v1/agents/${agent}/model`,
    model === null ? {} : { model },
    {
      said: model === null ? `${agent} uses the model of its settings` : `${agent} uses ${model} from its next turn on`,
      refused: "no such model",
    },
  );

/** @param {string} account */
export const resumeAccount = (account) =>
  doing(
    `resume account ${account}`,
    `/api/v1/accounts/${account}/resume`,
    {},
    { said: `account ${account}: its agents go on, one after the other` },
  );

/** @param {string} agent */
export const wake = (agent) =>
  doing(`wake ${agent}`, `/api/v1/agents/${agent}/wake`, {}, { said: `${agent} tries again` });

/**
 * @param {string} name      of the deed: the place it is sent from
 * @param {Record<string, unknown>} said
 */
export const remind = (name, said) =>
  doing(name, "/api/v1/reminders", said, { said: `${said.agent} will be reminded`, refused: "no reminder set" });

/**
 * @param {"edit" | "cancel" | "fire"} how
 * @param {number} reminder
 * @param {Record<string, unknown>} [said]
 */
export const changeReminder = (how, reminder, said = {}) =>
  doing(
    `${how} reminder ${reminder}`,
    `/api/v1/reminders/${reminder}/${how}`,
    said,
    how === "fire" ? { said: `reminder ${reminder} is sent now` } : {},
  );

const DISMISSED = "hive.dismissed";
const DISMISSED_MAX = 500;

/** @param {Message} message */
export function dismiss(message) {
  dismissed.value = new Set([...dismissed.value, message.id].slice(-DISMISSED_MAX));
  localStorage.setItem(DISMISSED, [...dismissed.value].join(" "));
}

export function loadDismissed() {
  dismissed.value = new Set((localStorage.getItem(DISMISSED) ?? "").split(" ").filter(Boolean).map(Number));
}

export async function signOut() {
  await post("/logout", {}).catch((problem) => tell(`sign out: ${problem.message}`, { bad: true }));
  location.assign("/login");
}
