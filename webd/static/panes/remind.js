/** Setting a reminder and changing one: what, when, and on what condition. Everything typed is a draft until it is set. */
import { html, useEffect, valueTo } from "../html.js";
import { changeReminder, remind } from "../act/deeds.js";
import { draft } from "../act/drafts.js";
import { serverNow } from "../live/clock.js";
import { manager, names } from "../live/store.js";
import { Deed } from "../parts/buttons.js";
import { scheduleWords, secondsOf } from "../words/schedules.js";
import { ZONE_NAME } from "../words/times.js";

/** @import {Reminder} from "../types/wire" */
/** @import {ComponentChildren} from "../vendor/preact.js" */

/** @typedef {"same" | "in" | "at" | "every" | "cron"} Kind */

/** @type {Record<Kind, {says: string, hint: string}>} */
const KINDS = {
  same: { says: "when it is due now", hint: "" },
  in: { says: "once, in", hint: "2 h" },
  at: { says: "once, at", hint: "" },
  every: { says: "every", hint: "1 d" },
  cron: { says: "by cron", hint: "0 8 * * 1-5" },
};

/** The drafts of one form. @param {string} place */
const fields = (place) => ({
  agent: draft(`${place} agent`),
  text: draft(`${place} text`),
  kind: draft(`${place} kind`),
  when: draft(`${place} when`),
  zone: draft(`${place} zone`),
  only_if: draft(`${place} only if`),
});

/** @typedef {ReturnType<typeof fields>} Fields */

/** @param {Fields} form */
function forget(form) {
  for (const field of Object.values(form)) field.type("");
}

/**
 * What is wrong with a time, in a sentence; "" when nothing is, or nothing is there yet.
 * @param {Kind} kind
 * @param {string} when
 */
function problem(kind, when) {
  if (!when || kind === "same") return "";
  if (kind === "in" || kind === "every") {
    const seconds = secondsOf(when);
    if (Number.isNaN(seconds) || seconds < 1) return "a time such as 90 s, 15 min, 2 h or 1 d 6 h";
    if (kind === "every" && seconds < 60) return "at most once a minute";
  }
  if (kind === "cron" && when.trim().split(/\s+/).length !== 5) return "five fields: minute, hour, day, month, weekday";
  return "";
}

/**
 * The schedule as webd wants it.
 * @param {Kind} kind
 * @param {string} when
 * @param {string} zone
 * @returns {Record<string, unknown>}
 */
function schedule(kind, when, zone) {
  if (kind === "in") return { at: new Date(serverNow() + secondsOf(when) * 1_000).toISOString() };
  if (kind === "at") return { at: when, zone };
  if (kind === "every") return { every_s: secondsOf(when) };
  return kind === "cron" ? { cron: when.trim().split(/\s+/).join(" "), zone } : {};
}

/** @param {{form: Fields, kinds: readonly Kind[], kind: Kind, place: string}} props */
function When({ form, kinds, kind, place }) {
  const zoned = kind === "at" || kind === "cron";
  return html`
    <label>when
      <select class="field" value=${kind} onChange=${valueTo((next) => (form.kind.type(next), form.when.type("")))}>
        ${kinds.map((one) => html`<option key=${one} value=${one}>${KINDS[one].says}</option>`)}
      </select>
    </label>
    ${kind !== "same" &&
    html`<label><span class="sr">${KINDS[kind].says}</span><input class="field when" key=${kind}
      type=${kind === "at" ? "datetime-local" : "text"} autocomplete="off" spellcheck=${false}
      placeholder=${KINDS[kind].hint} value=${form.when.text.value} aria-describedby=${`${place}-problem`}
      aria-invalid=${problem(kind, form.when.text.value) ? "true" : undefined} onInput=${valueTo(form.when.type)} /></label>`}
    ${zoned &&
    html`<label>in the zone <input class="field zone" autocomplete="off" spellcheck=${false} placeholder=${ZONE_NAME}
      value=${form.zone.text.value} onInput=${valueTo(form.zone.type)} /></label>`}`;
}

/**
 * @typedef {object} FormProps
 * @property {string} place
 * @property {string} label
 * @property {Fields} form
 * @property {readonly Kind[]} kinds
 * @property {Kind} kind
 * @property {string} deed
 * @property {string} verb
 * @property {string} doing
 * @property {boolean} ready
 * @property {() => unknown} run
 * @property {() => void} done
 * @property {ComponentChildren} [before]
 */

/** @param {FormProps} props */
function Form({ place, label, form, kinds, kind, deed, verb, doing, ready, run, done, before }) {
  const wrong = problem(kind, form.when.text.value);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (ready && !wrong) void run();
  };
  return html`
    <form class="card mauve remind" aria-label=${label} onSubmit=${submit}>
      <label class="wide"><span class="sr">what</span><textarea class="field words" rows="1" placeholder="what to remind of"
        value=${form.text.text.value} onInput=${valueTo(form.text.type)}></textarea></label>
      ${before}
      <${When} form=${form} kinds=${kinds} kind=${kind} place=${place} />
      <label class="wide">only if <input class="field command" autocomplete="off" spellcheck=${false}
        placeholder="a command that succeeds; empty: always" value=${form.only_if.text.value}
        onInput=${valueTo(form.only_if.type)} /></label>
      <p id=${`${place}-problem`} class="problem" role="status">${wrong}</p>
      <div class="row">
        <${Deed} deed=${deed} tone="go" doing=${doing} disabled=${!ready || wrong !== ""} run=${run}>${verb}<//>
        <button class="btn quiet" type="button" onClick=${() => (forget(form), done())}>discard</button>
      </div>
    </form>`;
}

/** @param {{done: () => void}} props */
export function Remind({ done }) {
  const form = fields("remind");
  const chosen = form.agent.text.value;
  const agent = names.value.includes(chosen) ? chosen : manager.value || names.value[0] || "";
  const kind = /** @type {Kind} */ (form.kind.text.value || "in");
  const when = form.when.text.value;
  const set = async () => {
    const { at, ...rest } = schedule(kind, when, form.zone.text.peek().trim() || ZONE_NAME);
    const due = kind === "in" ? { in_s: secondsOf(when) } : at === undefined ? rest : { at, ...rest };
    const only_if = form.only_if.text.peek().trim();
    const said = { agent, text: form.text.text.peek().trim(), ...due, ...(only_if ? { only_if } : {}) };
    if (!(await remind("remind", { ...said, key: form.text.key() }))) return;
    forget(form);
    done();
  };
  const to = html`<label>whom
    <select class="field" value=${agent} onChange=${valueTo(form.agent.type)}>
      ${names.value.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select></label>`;
  return html`<${Form} place="remind" label="new reminder" form=${form} kinds=${["in", "at", "every", "cron"]} kind=${kind}
    deed="remind" verb="remind" doing="setting…" ready=${agent !== "" && form.text.text.value.trim() !== "" && when !== ""}
    run=${set} done=${done} before=${to} />`;
}

/** @param {{reminder: Reminder, done: () => void}} props */
export function Change({ reminder, done }) {
  const { id, body, only_if } = reminder;
  const form = fields(`edit ${id}`);
  useEffect(() => {
    if (form.text.text.peek()) return; // what was typed before is still there
    form.text.type(body);
    form.only_if.type(only_if ?? "");
  }, []);
  const kind = /** @type {Kind} */ (form.kind.text.value || "same");
  const when = form.when.text.value;
  const change = async () => {
    const text = form.text.text.peek().trim();
    const condition = form.only_if.text.peek().trim() || null;
    const said = {
      ...(text === body ? {} : { text }),
      ...(condition === only_if ? {} : { only_if: condition }),
      ...schedule(kind, when, form.zone.text.peek().trim() || ZONE_NAME),
    };
    if (Object.keys(said).length && !(await changeReminder("edit", id, said))) return;
    forget(form);
    done();
  };
  return html`<${Form} place=${`edit-${id}`} label=${`reminder ${id}: ${scheduleWords(reminder.schedule, ZONE_NAME)}`}
    form=${form} kinds=${["same", "in", "at", "every", "cron"]} kind=${kind} deed=${`edit reminder ${id}`} verb="change"
    doing="changing…" ready=${form.text.text.value.trim() !== "" && (kind === "same" || when !== "")} run=${change}
    done=${done} />`;
}
