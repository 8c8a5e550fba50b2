/** K3PT ST4T3: what destroyed agents left, how much it is, and what can become of it. Not shown while nothing is kept. */
import { html, useEffect, useState, valueTo } from "../html.js";
import { spawn } from "../act/decisions.js";
import { purge } from "../act/deeds.js";
import { Files, sizeWords } from "../live/files.js";
import { kept } from "../live/store.js";
import { Deed } from "../parts/buttons.js";
import { Guarded } from "../parts/guarded.js";
import { Head } from "../parts/head.js";
import { Sigil } from "../parts/pictures.js";
import { Since } from "../parts/times.js";
import { count, size } from "../words/amounts.js";

/** @import {Kept as KeptRow} from "../types/wire" */

/** Its name, typed again, before anything is deleted. @param {{name: string, done: () => void}} props */
function Purge({ name, done }) {
  const [typed, setTyped] = useState("");
  const run = async () => {
    if (typed === name) await purge(name);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void run();
  };
  return html`
    <form class="sure" aria-label=${`purge ${name}`} onSubmit=${submit}>
      <label>deletes it for good: type <b>${name}</b> to go on <input class="field" autocomplete="off"
        spellcheck=${false} autocapitalize="off" value=${typed} ref=${focusOnce} onInput=${valueTo(setTyped)} /></label>
      <${Deed} deed=${`purge ${name}`} tone="stop" doing="purging…" disabled=${typed !== name} run=${run}>purge<//>
      <button class="btn quiet" type="button" onClick=${done}>keep</button>
    </form>`;
}

/** @param {{row: KeptRow}} props */
function Row({ row: { name, since_ms, model, runner } }) {
  const [files, setFiles] = useState(/** @type {Files | null} */ (null));
  const [purging, setPurging] = useState(false);
  useEffect(() => {
    const made = new Files(name);
    setFiles(made);
    void made.measure();
  }, [name, since_ms]);
  const told = files?.size.value;
  return html`
    <li data-kept=${name}>
      <${Sigil} name=${name} tone="dim" />
      <a class="who" href=${`/agent/${name}/`} data-step>${name}<small>${model ?? runner}</small></a>
      <span class="much">${told ? sizeWords(told, size, count) : "counting…"}<small><${Since} ms=${since_ms}
        before="destroyed " after=" ago" /></small></span>
      <span class="acts">
        <a class="btn quiet" href=${`/agent/${name}/state`}>files<span class="sr"> of ${name}</span></a>
        <${Deed} deed=${`spawn ${name}`} doing="coming back…" run=${() => spawn(name)}>bring back<span
          class="sr"> ${name}</span><//>
        <button class="btn stop" type="button" aria-expanded=${purging ? "true" : "false"}
          onClick=${() => setPurging(!purging)}>purge…<span class="sr"> ${name}</span></button>
      </span>
      ${purging && html`<${Purge} name=${name} done=${() => setPurging(false)} />`}
    </li>`;
}

export function Kept() {
  const rows = [...kept.value.values()].sort((a, b) => b.since_ms - a.since_ms || a.name.localeCompare(b.name));
  if (!rows.length) return null;
  return html`
    <section id="kept" aria-labelledby="h-kept">
      <${Head} id="h-kept" title="K3PT ST4T3" plain="kept state" says="what destroyed agents left behind" />
      <ul class="kept">
        ${rows.map((row) => html`<${Guarded} key=${row.name} what=${row.name}><${Row} row=${row} /><//>`)}
      </ul>
    </section>`;
}

/** @param {HTMLElement | null} field */
function focusOnce(field) {
  if (field && !field.dataset.met) {
    field.dataset.met = "yes";
    field.focus();
  }
}
