/** A new agent from the built-in template: a name and what drives it. */
import { html, useState, valueTo } from "../html.js";
import { draft } from "../act/drafts.js";
import { create } from "../act/deeds.js";
import { Deed } from "../parts/buttons.js";
import { agents } from "../live/store.js";
import { NAME_CHARS_MAX, nameProblem } from "../words/names.js";

const typed = draft("spawn");

/** @param {{done: () => void}} props */
export function Spawn({ done }) {
  const name = typed.text.value;
  const [runner, setRunner] = useState(() => [...agents.peek().values()][0]?.peek().runner ?? "claude");
  const problem = nameProblem(name, new Set(agents.value.keys()));
  const make = async () => {
    if (!name || problem || !(await create(name, runner))) return;
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
      <label>driven by
        <select class="field" name="runner" value=${runner}
          onChange=${valueTo((chosen) => setRunner(chosen === "demo" ? "demo" : "claude"))}>
          <option value="claude">claude</option><option value="demo">demo</option>
        </select>
      </label>
      <${Deed} deed=${`create ${name}`} tone="go" doing="spawning…" disabled=${!name || problem !== ""}
        run=${make}>spawn<//>
      <button class="btn quiet" type="button" onClick=${done}>cancel</button>
      <p id="spawn-problem" class="problem" role="status">${problem}</p>
    </form>`;
}

/** @param {HTMLElement | null} field */
function focusOnce(field) {
  if (field && !field.dataset.met) {
    field.dataset.met = "yes";
    field.focus();
  }
}
