/** A new agent from one of the hive's own templates: a name, a role, and what drives it. Typing it is deciding it. */
import { html, useState, valueTo } from "../html.js";
import { draft } from "../act/drafts.js";
import { spawn } from "../act/decisions.js";
import { Deed } from "../parts/buttons.js";
import { agents, drafts, hive, kept } from "../live/store.js";
import { NAME_CHARS_MAX, nameProblem } from "../words/names.js";
import { TEMPLATES } from "../words/templates.js";

const typed = draft("spawn");

/** What the name means beyond itself. @param {string} name */
function consequence(name) {
  if (kept.value.has(name)) return `${name} was destroyed: it finds its notes again`;
  if (hive.value && !hive.value.click && name) return "it waits in Y3R C4LL for a key that approves it";
  return "";
}

/** @param {{done: () => void}} props */
export function Spawn({ done }) {
  const name = typed.text.value;
  const [runner, setRunner] = useState(() => [...agents.peek().values()][0]?.peek().runner ?? "claude");
  const [template, setTemplate] = useState("plain");
  const problem = nameProblem(name, new Set([...agents.value.keys(), ...drafts.value.keys()]));
  const make = async () => {
    if (!name || problem || !(await spawn(name, { runner, template }))) return;
    typed.type("");
    done();
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    void make();
  };
  return html`
    <form class="card mauve spawn" aria-label="new agent" onSubmit=${submit}>
      <label>name <input class="field" name="name" autocomplete="off" spellcheck=${false}
        maxlength=${NAME_CHARS_MAX + 7} value=${name} aria-describedby="spawn-problem"
        aria-invalid=${problem ? "true" : undefined} ref=${focusOnce} onInput=${valueTo((text) => typed.type(text.trim()))} /></label>
      <label>role
        <select class="field" name="template" value=${template} onChange=${valueTo(setTemplate)}>
          ${TEMPLATES.map((role) => html`<option key=${role} value=${role}>${role}</option>`)}
        </select>
      </label>
      <label>driven by
        <select class="field" name="runner" value=${runner}
          onChange=${valueTo((chosen) => setRunner(chosen === "demo" ? "demo" : "claude"))}>
          <option value="claude">claude</option><option value="demo">demo</option>
        </select>
      </label>
      <${Deed} deed=${`spawn ${name}`} tone="go" doing="spawning…" disabled=${!name || problem !== ""}
        run=${make}>spawn<//>
      <button class="btn quiet" type="button" onClick=${done}>cancel</button>
      <p id="spawn-problem" class="problem" role="status">${problem || consequence(name)}</p>
    </form>`;
}

/** @param {HTMLElement | null} field */
function focusOnce(field) {
  if (field && !field.dataset.met) {
    field.dataset.met = "yes";
    field.focus();
  }
}
