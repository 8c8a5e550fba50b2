/** The `?` sheet: every key that does something here, and the switch for single keys. */
import { html, signal, useLayoutEffect, useRef } from "../html.js";
import { bindings, singleKeys, toggleSingleKeys } from "../act/keyboard.js";

const open = signal(false);

export function openKeySheet() {
  open.value = true;
}

export function KeySheet() {
  /** @type {import("../vendor/preact.js").RefObject<HTMLDialogElement | null>} */
  const dialog = useRef(null);
  useLayoutEffect(() => {
    if (open.value && !dialog.current?.open) dialog.current?.showModal();
  });
  if (!open.value) return null;
  const shut = () => (open.value = false);
  return html`
    <dialog class="sheet" ref=${dialog} aria-labelledby="h-keys" onClose=${shut}
      onClick=${(/** @type {Event} */ event) => event.target === dialog.current && dialog.current?.close()}>
      <div class="inner">
        <div class="head"><h2 id="h-keys"><span aria-hidden="true">K3YS</span><span
          class="sr">keys</span></h2><hr /></div>
        <dl>
          ${bindings.value.map(
            ({ keys, does }) =>
              html`<div><dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${does}</dd></div>`,
          )}
        </dl>
        <label class="opt"><input type="checkbox" checked=${singleKeys.value}
          onChange=${toggleSingleKeys} /><span>single keys do something <small>they never do while you type</small></span></label>
        <button class="btn" type="button" onClick=${() => dialog.current?.close()}>close</button>
      </div>
    </dialog>`;
}
