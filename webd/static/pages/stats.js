/** The page `/agent/<name>/stats`: an agent in numbers, over a span that is chosen, and as small charts. */
import { html, useEffect, useState } from "../html.js";
import { Header } from "../agent/header.js";
import { numbers } from "../live/numbers.js";
import { agentNow } from "../live/store.js";
import { Chart } from "../parts/chart.js";
import { Empty, Head } from "../parts/head.js";
import { At, Since } from "../parts/times.js";
import { count, money, short, size, spaced } from "../words/amounts.js";
import { highest } from "../words/charts.js";
import { toolName } from "../words/names.js";
import { everyWords } from "../words/schedules.js";
import { duration } from "../words/times.js";

/** @import {AgentStatistics, Bucket, Statistics, Traffic} from "../types/wire" */
/** @import {ComponentChildren} from "../vendor/preact.js" */
/** @import {Numbers} from "../live/numbers.js" */

const EVERY_MS = 15_000;
const TOOLS_SHOWN_MAX = 12;
const SPANS = ["1h", "6h", "24h", "7d", "30d"];
const DAY = "24h";

/** @param {{term: string, children?: ComponentChildren, tone?: string}} props */
const Figure = ({ term, tone = "", children }) => html`<div class=${tone}><dt>${term}</dt><dd>${children}</dd></div>`;

const took = (/** @type {number | null} */ ms) => (ms === null ? "–" : duration(ms));

/** @param {{agent: AgentStatistics}} props */
const Figures = ({ agent }) => html`
  <dl class="figures">
    <${Figure} term="turns">${spaced(agent.turns)}<//>
    <${Figure} term="turns a minute">${agent.turns_per_minute.toFixed(agent.turns_per_minute < 1 ? 3 : 1)}<//>
    <${Figure} term="tool calls a turn">${agent.tool_calls_per_turn.toFixed(1)}<//>
    <${Figure} term="a turn takes, median">${took(agent.duration_p50_ms)}<//>
    <${Figure} term="… and 95 of 100">${took(agent.duration_p95_ms)}<//>
    <${Figure} term="since the last turn">${agent.last_turn_ms === null ? "never" : html`<${Since} ms=${agent.last_turn_ms} />`}<//>
    <${Figure} term="inbox now" tone=${agent.inbox ? "hot" : ""}>${spaced(agent.inbox)}<//>
    <${Figure} term="inbox at most">${spaced(agent.inbox_max)}<//>
    <${Figure} term="notes">${agent.notes_bytes === null ? "–" : size(agent.notes_bytes)}<//>
    <${Figure} term="tokens in">${short(read(agent))}<//>
    <${Figure} term="tokens out">${short(agent.usage.output_tokens)}<//>
    <${Figure} term="cost">${money(agent.usage.cost_microusd) || "–"}<//>
  </dl>`;

/** @param {AgentStatistics} agent */
const read = ({ usage }) => usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;

/** Shares of a whole as bars, the largest first. @param {{of: [string, number][], bad?: ReadonlySet<string>}} props */
function Shares({ of, bad = new Set() }) {
  const most = Math.max(1, ...of.map(([, n]) => n));
  return html`
    <ul class="shares">
      ${of.map(
        ([name, n]) => html`<li key=${name} class=${bad.has(name) ? "bad" : ""}><span>${name}</span><progress
          max=${most} value=${n} aria-label=${`${name}: ${n}`}></progress><b class="num">${spaced(n)}</b></li>`,
      )}
    </ul>`;
}

/** Outcomes that are nobody's trouble. */
const FINE = new Set(["done", "cancelled", "interrupted"]);

/** @param {{agent: AgentStatistics}} props */
function Outcomes({ agent }) {
  const of = /** @type {[string, number][]} */ (Object.entries(agent.outcomes))
    .sort(([, a], [, b]) => b - a)
    .map(([name, n]) => /** @type {[string, number]} */ ([name.replaceAll("_", " "), n]));
  const bad = new Set(of.map(([name]) => name).filter((name) => !FINE.has(name)));
  return html`
    <section aria-labelledby="h-outcomes">
      <${Head} id="h-outcomes" title="0UTC0M3S" plain="outcomes" />
      ${of.length ? html`<${Shares} of=${of} bad=${bad} />` : html`<p class="fine">no turn has ended in this time.</p>`}
    </section>`;
}

/** @param {{agent: AgentStatistics}} props */
function Tools({ agent }) {
  const of = /** @type {[string, number][]} */ (Object.entries(agent.tools))
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOOLS_SHOWN_MAX)
    .map(([name, n]) => /** @type {[string, number]} */ ([toolName(name), n]));
  return html`
    <section aria-labelledby="h-tools">
      <${Head} id="h-tools" title="T00LS" plain="tools" after=${of.length < Object.keys(agent.tools).length ? `the ${of.length} most used` : ""} />
      ${of.length ? html`<${Shares} of=${of} />` : html`<p class="fine">no tool was called in this time.</p>`}
    </section>`;
}

/** @param {{name: string, traffic: Traffic, turns: number}} props */
const TrafficRow = ({ name, traffic, turns }) => {
  const total = traffic.peer + traffic.operator + traffic.manager + traffic.system;
  return html`<tr><th scope="row">${name}</th>${[traffic.peer, traffic.operator, traffic.manager, traffic.system, total].map(
    (n) => html`<td class="num">${spaced(n)}</td>`,
  )}<td class="num">${turns ? (total / turns).toFixed(1) : "–"}</td></tr>`;
};

/** @param {{agent: AgentStatistics}} props */
const Messages = ({ agent }) => html`
  <section aria-labelledby="h-traffic">
    <${Head} id="h-traffic" title="M41L" plain="mail" />
    <table class="traffic">
      <thead><tr><td></td>${["peers", "operator", "manager", "system", "all", "a turn"].map((word) => html`<th scope="col">${word}</th>`)}</tr></thead>
      <tbody>
        <${TrafficRow} name="sent to" traffic=${agent.sent} turns=${agent.turns} />
        <${TrafficRow} name="came from" traffic=${agent.received} turns=${agent.turns} />
      </tbody>
    </table>
    <p class="fine">reminders: ${count(agent.reminders.attempted, "time")} sent, ${agent.reminders.delivered} ended well,
      ${" "}${agent.reminders.failed} failed, ${agent.reminders.skipped} skipped; ${agent.reminders.waiting} still to fire.</p>
  </section>`;

const sum = (/** @type {number[]} */ all) => all.reduce((a, b) => a + b, 0);

/** @param {{agent: AgentStatistics, told: Statistics}} props */
function Charts({ agent, told }) {
  const rows = agent.series;
  const at_ms = rows.map((row) => row.at_ms);
  const of = (/** @type {keyof Bucket} */ field) => rows.map((row) => row[field]);
  const numbersOf = (/** @type {keyof Bucket} */ field) => rows.map((row) => row[field] ?? 0);
  const failed = sum(numbersOf("failed"));
  const known = rows.findLast((row) => row.notes_bytes !== null)?.notes_bytes ?? null;
  return html`
    <section class="charts" aria-labelledby="h-charts">
      <${Head} id="h-charts" title="PUL5E" plain="pulse" after=${`steps of ${everyWords(told.bucket_ms / 1_000).replace("every ", "")}`} />
      <div class="grid">
        <${Chart} name="turns" value=${failed ? `${spaced(agent.turns)}, ${failed} failed` : spaced(agent.turns)} at_ms=${at_ms} to_ms=${told.at_ms}
          series=${[
            { name: "turns", tone: "mauve", values: of("turns"), bars: true },
            { name: "failed", tone: "rose", values: of("failed"), bars: true },
          ]} />
        <${Chart} name="a turn takes" value=${`${took(agent.duration_p50_ms)} – ${took(agent.duration_p95_ms)}`} at_ms=${at_ms} to_ms=${told.at_ms} words=${duration}
          series=${[
            { name: "95 of 100", tone: "amber", values: of("duration_p95_ms") },
            { name: "median", tone: "green", values: of("duration_p50_ms") },
          ]} />
        <${Chart} name="tool calls" value=${spaced(sum(numbersOf("tool_calls")))} at_ms=${at_ms} to_ms=${told.at_ms}
          series=${[{ name: "calls", tone: "green", values: of("tool_calls"), bars: true }]} />
        <${Chart} name="inbox, deepest" value=${spaced(highest(of("inbox_max")))} at_ms=${at_ms} to_ms=${told.at_ms}
          series=${[{ name: "waiting", tone: "amber", values: of("inbox_max") }]} />
        <${Chart} name="messages" value=${`${spaced(sum(numbersOf("sent")))} sent, ${spaced(sum(numbersOf("received")))} received`} at_ms=${at_ms} to_ms=${told.at_ms}
          series=${[
            { name: "received", tone: "mauve", values: of("received") },
            { name: "sent", tone: "green", values: of("sent") },
          ]} />
        <${Chart} name="tokens out" value=${short(sum(numbersOf("output_tokens")))} at_ms=${at_ms} to_ms=${told.at_ms} words=${short}
          series=${[{ name: "tokens", tone: "mauve", values: of("output_tokens"), bars: true }]} />
        ${known !== null &&
        html`<${Chart} name="notes" value=${size(known)} at_ms=${at_ms} to_ms=${told.at_ms} words=${size}
          series=${[{ name: "size", tone: "amber", values: of("notes_bytes") }]} />`}
      </div>
    </section>`;
}

/** The span in the address. */
const spanNow = () => {
  const asked = new URLSearchParams(location.search).get("since") ?? DAY;
  return SPANS.includes(asked) ? asked : DAY;
};

/** @param {string} name @param {string} span */
function useNumbers(name, span) {
  const [asked, setAsked] = useState(/** @type {Numbers | null} */ (null));
  useEffect(() => {
    const made = numbers(`since=${span}&agent=${name}`, EVERY_MS);
    setAsked(made);
    return made.stop;
  }, [name, span]);
  const last = agentNow(name)?.last_turn_ms;
  useEffect(() => asked?.now(), [last]); // a turn has ended
  return asked;
}

/** @param {{name: string, span: string, choose: (span: string) => void}} props */
const Span = ({ name, span, choose }) => html`
  <nav class="spans" aria-label="span">
    ${SPANS.map((one) => {
      const go = (/** @type {MouseEvent} */ event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
        event.preventDefault();
        choose(one);
      };
      return html`<a key=${one} href=${`/agent/${name}/stats?since=${one}`} aria-current=${one === span ? "true" : undefined}
        onClick=${go}>${one}</a>`;
    })}
  </nav>`;

/** @param {{name: string}} props */
export function StatsPage({ name }) {
  const [span, setSpan] = useState(spanNow);
  const asked = useNumbers(name, span);
  const told = asked?.told.value ?? null;
  const fault = asked?.fault.value ?? "";
  const agent = told?.agents.find((one) => one.agent === name);
  const choose = (/** @type {string} */ next) => {
    history.replaceState(null, "", `?since=${next}`);
    setSpan(next);
  };
  return html`
    <main class="agent alone" id="main" tabindex="-1">
      <${Header} name=${name} agent=${agentNow(name)} view="stats" />
      <div class="stats" tabindex="0" role="region" aria-label=${`${name} in numbers`}>
        <div class="spanbar"><${Span} name=${name} span=${span} choose=${choose} />
          ${told && html`<span class="fine">since <${At} ms=${told.since_ms} /></span>`}</div>
        ${fault && html`<p class="undrawn" role="alert"><b>✕ no new numbers:</b> ${fault}</p>`}
        ${
          agent && told
            ? html`<${Figures} agent=${agent} /><${Charts} agent=${agent} told=${told} />
              <div class="columns"><${Outcomes} agent=${agent} /><${Tools} agent=${agent} /><${Messages} agent=${agent} /></div>`
            : html`<${Empty} title=${told ? "no numbers of this agent." : "counting…"}>turns and messages of this span land here.<//>`
        }
      </div>
    </main>`;
}
