/** An agent's state: glyph, word and age, never colour alone. */
import { html } from "../html.js";
import { Since, Until } from "./times.js";

/** @import {Agent, AgentState} from "../types/wire" */

/** @type {Record<AgentState, string>} */
const WORD = {
  idle: "idle",
  thinking: "thinking",
  starting: "starting",
  stopping: "stopping",
  offline: "offline",
  crashed: "crashed",
  failed: "failed",
  limited: "rate-limited",
  parked: "needs you",
};

const TIMED = new Set(["thinking", "starting", "stopping"]);

/** Since when, or, when a limit holds it, until when. @param {{agent: Agent}} props */
const When = ({ agent }) =>
  agent.until_ms === null
    ? html`<${Since} ms=${agent.since_ms} as=${TIMED.has(agent.state) ? "timer" : "age"} />`
    : html`<${Until} ms=${agent.until_ms} before="until ~" />`;

/** What the operator's pause means for it now. @param {Agent} agent */
const pausedWord = (agent) => (agent.state === "thinking" ? "pauses after this turn" : "paused");

/** @param {{agent: Agent, big?: boolean}} props */
export const State = ({ agent, big = false }) => html`
  <span class=${`state ${agent.state} ${agent.paused ? "paused" : ""} ${big ? "big grow" : ""}`}
    role=${big ? "status" : undefined}>
    ${agent.paused && agent.state === "idle" ? "paused" : (WORD[agent.state] ?? agent.state)}${" "}
    <span aria-hidden=${big ? "true" : undefined}><${When} agent=${agent} /></span>
    ${agent.paused && agent.state !== "idle" && html`<span class="tag no">${pausedWord(agent)}</span>`}
  </span>`;

/** Can the agent be started, or does it run? @param {Agent} agent */
export const down = (agent) => agent.state === "offline" || agent.state === "crashed" || agent.state === "failed";

/** The colour of an agent's sigil. @param {Agent} agent */
export function tone(agent) {
  if (agent.state === "crashed" || agent.state === "failed" || agent.state === "limited") return "rose";
  if (agent.state === "parked") return "amber";
  return agent.state === "offline" ? "dim" : "";
}
