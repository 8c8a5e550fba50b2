/**
 * M1ND H4S QU3STI0NS: every question as a form, the oldest first; what agents ask each other, and what was answered lately.
 */
import { html, useDerived, useState, valueTo } from "../html.js";
import { answer } from "../act/deeds.js";
import { draft } from "../act/drafts.js";
import { get } from "../act/post.js";
import { tell } from "../act/toasts.js";
import { now_ms } from "../live/clock.js";
import { asked, between, broken, ended } from "../live/store.js";
import { Deed } from "../parts/buttons.js";
import { Guarded } from "../parts/guarded.js";
import { Head } from "../parts/head.js";
import { Icon, Sigil } from "../parts/pictures.js";
import { Folding } from "../parts/prose.js";
import { At, Left, Since } from "../parts/times.js";
import { Who } from "./message.js";

/** @import {Broken, Question} from "../types/wire" */

/** Forms shown at once, wide and narrow (there by prefs.css); the rest unfolds. */
const SHOWN_MAX = 4;
const PHONE_MAX = 1;
const ENDED_SHOWN_MAX = 3;
const PAGE = 20;
const MINUTE_MS = 60_000;
const LATELY_MS = 10 * MINUTE_MS;

/** What was chosen so far, as a draft: it survives a reload. @param {number} id */
function useChoices(id) {
  const kept = draft(`choices ${id}`);
  const chosen = kept.text.value ? /** @type {string[]} */ (JSON.parse(kept.text.value)) : [];
  return { chosen, choose: (/** @type {string[]} */ next) => kept.type(next.length ? JSON.stringify(next) : "") };
}

/**
 * @typedef {{question: Question, option: string, chosen: string[], choose: (next: string[]) => void}} OptionProps
 * @param {OptionProps} props
 */
function Option({ question, option, chosen, choose }) {
  const on = chosen.includes(option);
  const change = () =>
    choose(question.multi ? question.options.filter((one) => (one === option ? !on : chosen.includes(one))) : [option]);
  return html`
    <label class="opt"><input type=${question.multi ? "checkbox" : "radio"} name=${`q-${question.id}`} checked=${on}
      onChange=${change} /><span>${option}</span></label>`;
}

/** @param {{question: Question}} props */
function Form({ question }) {
  const { id, options } = question;
  const words = draft(`answer ${id}`);
  const { chosen, choose } = useChoices(id);
  const text = words.text.value;
  const ready = options.length ? chosen.length > 0 : text.trim() !== "";
  const post = async () => {
    if (!ready) return;
    const done = await answer(id, { answer: text.trim(), choices: chosen, key: words.key() });
    if (!done) return; // what was typed stays: it has not been sent
    words.type("");
    choose([]);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void post();
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const hint = options.length ? "a remark, if there is one" : "your answer";
  return html`
    <form class="card call amber question" id=${`q-${id}`} aria-labelledby=${`h-q-${id}`} onSubmit=${submit}>
      <header>
        <${Sigil} name=${question.asker} />
        <h3 id=${`h-q-${id}`} tabindex="-1" data-step><span class="kind">question</span> · ${question.asker}</h3>
        <${Since} ms=${question.asked_ms} as="wait" />
        <p>${question.deadline_ms === null ? "waits as long as it takes" : html`<${Left} ms=${question.deadline_ms} />`}</p>
      </header>
      <div class="why said"><${Folding} text=${question.text} /></div>
      <fieldset>
        <legend class="sr">${question.multi ? "choose any" : options.length ? "choose one" : "answer"}</legend>
        ${options.map((option) => html`<${Option} key=${option} question=${question} option=${option} chosen=${chosen}
          choose=${choose} />`)}
        <textarea class="field words" rows="1" aria-label=${`${hint}: question ${id}`} placeholder=${hint} value=${text}
          onInput=${valueTo(words.type)} onKeyDown=${key}></textarea>
      </fieldset>
      <div class="acts"><${Deed} deed=${`answer ${id}`} tone="go" doing="answering…" disabled=${!ready}
        run=${post}><${Icon} name="check" />answer<//></div>
    </form>`;
}

/** @type {Record<Question["state"], string>} */
const ENDED = { open: "waits", answered: "answered", expired: "nobody answered in time", closed: "closed" };

/** What was answered: the choices, and the words beside them. @param {Question} question */
const answerOf = ({ choices, answer: words }) => [choices.join(", "), words].filter(Boolean).join(" · ");

/** A question in one row: who asks whom, and how it stands. @param {{question: Question}} props */
const Line = ({ question }) => html`
  <li class=${`asked ${question.state}`} data-question=${question.id}>
    <p class="by"><${Who} name=${question.asker} /> <span class="to">asks</span> <${Who} name=${question.asked_of} />
      ${question.state === "open"
        ? html`<span class="end"><${Since} ms=${question.asked_ms} />${question.deadline_ms !== null &&
            html` · <${Left} ms=${question.deadline_ms} />`}</span>`
        : html`<span class="end"><${At} ms=${question.ended_ms ?? question.asked_ms} /></span>`}</p>
    <p class="text">${question.text}</p>
    ${question.state === "open"
      ? question.options.length > 0 && html`<p class="fine">${question.options.join(" / ")}</p>`
      : html`<p class=${`result ${question.state}`}>${question.state === "answered"
          ? html`<b>◆ ${question.answered_by ?? "somebody"}:</b> ${answerOf(question)}`
          : html`<b>◌ ${ENDED[question.state]}</b>`}</p>`}
  </li>`;

/** @param {{row: Broken}} props */
const BrokenRow = ({ row }) => html`
  <p class="undrawn" role="alert"><b>✕ question ${row.id} cannot be read</b> ${row.fault}. its asker waits; brokerd's log has more.</p>`;

/**
 * Questions that have ended, page by page, without those that are shown above.
 * @param {{known: number[]}} props
 */
function Earlier({ known }) {
  const [rows, setRows] = useState(/** @type {Question[]} */ ([]));
  const [before, setBefore] = useState(/** @type {number | null | undefined} */ (undefined));
  const [busy, setBusy] = useState(false);
  const load = async () => {
    setBusy(true);
    try {
      const page = await get(`/api/v1/questions?limit=${PAGE}${before ? `&before=${before}` : ""}`);
      setRows([...rows, ...page.questions.filter((/** @type {Question} */ row) => row.state !== "open")]);
      setBefore(page.before);
    } catch (problem) {
      tell(`earlier questions: ${/** @type {Error} */ (problem).message}`, { bad: true });
    } finally {
      setBusy(false);
    }
  };
  const shown = rows.filter((row) => !known.includes(row.id));
  return html`
    ${shown.length > 0 && html`<ul class="askeds" aria-label="earlier questions">${shown.map((row) => html`<${Line} key=${row.id} question=${row} />`)}</ul>`}
    ${before === null
      ? !shown.length && html`<p class="fine">nothing was asked before.</p>`
      : html`<button class="btn quiet older" type="button" aria-busy=${busy ? "true" : undefined} onClick=${load}>earlier questions</button>`}`;
}

export function Questions() {
  const [all, setAll] = useState(false);
  const forms = all ? asked.value : asked.value.slice(0, SHOWN_MAX);
  const minute = useDerived(() => Math.floor(now_ms.value / MINUTE_MS), []);
  const since_ms = minute.value * MINUTE_MS - LATELY_MS;
  const lately = ended.value.filter((row) => (row.ended_ms ?? 0) > since_ms).slice(0, ENDED_SHOWN_MAX);
  const says = asked.value.length ? `${asked.value.length} for you` : "none pending";
  return html`
    <section class="questions" id="questions" aria-labelledby="h-questions">
      <${Head} id="h-questions" title="M1ND H4S QU3STI0NS" plain="mind has questions" tone="amber" after=${says} />
      ${broken.value.map((row) => html`<${BrokenRow} key=${row.id} row=${row} />`)}
      <div class=${all ? "forms" : "forms few"} hidden=${!forms.length}>
        ${forms.map((question) => html`<div class="slot" key=${question.id}><${Guarded} what=${`question ${question.id}`}><${Form} question=${question} /><//></div>`)}
      </div>
      ${asked.value.length > PHONE_MAX &&
      html`<button class=${`btn quiet unfold ${asked.value.length > SHOWN_MAX ? "" : "narrow-only"}`} type="button" aria-expanded=${all ? "true" : "false"}
        onClick=${() => setAll(!all)}>${all ? "fewer" : `all ${asked.value.length}`}</button>`}
      ${between.value.length > 0 &&
      html`<ul class="askeds" aria-label="what agents ask each other">
        ${between.value.map((row) => html`<${Guarded} key=${row.id} what=${`question ${row.id}`}><${Line} question=${row} /><//>`)}
      </ul>`}
      ${lately.length > 0 &&
      html`<ul class="askeds lately" aria-label="answered lately">
        ${lately.map((row) => html`<${Guarded} key=${row.id} what=${`question ${row.id}`}><${Line} question=${row} /><//>`)}
      </ul>`}
      <${Earlier} known=${lately.map((row) => row.id)} />
    </section>`;
}
