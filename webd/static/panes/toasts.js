/** Where the notices of toasts.js appear. */
import { html } from "../html.js";
import { putAway, toasts } from "../act/toasts.js";
import { Icon } from "../parts/pictures.js";

export const Toasts = () => html`
  <div class="toasts" role="log" aria-label="notices">
    ${toasts.value.map(
      ({ id, text, bad, link }) => html`
        <div class=${`toast ${bad ? "bad" : ""}`} key=${id}>
          <b aria-hidden="true">${bad ? "✕" : "◆"}</b>
          <p>${text}</p>
          ${link && html`<a class="btn quiet" href=${link.href}>${link.text}</a>`}
          <button class="btn icon quiet" type="button" aria-label="put away" onClick=${() => putAway(id)}><${Icon}
            name="x" /></button>
        </div>`,
    )}
  </div>`;
