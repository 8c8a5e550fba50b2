/** A small menu behind a button: arrows move, escape and a click elsewhere close. */
import { html, useEffect, useId, useRef, useState } from "../html.js";
import { Icon } from "./pictures.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/** @param {{label: string, children?: ComponentChildren}} props   children are buttons or links with role="menuitem" */
export function Menu({ label, children }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  /** @type {import("../vendor/preact.js").RefObject<HTMLElement | null>} */
  const root = useRef(null);
  const items = () =>
    [...(root.current?.querySelectorAll("[role=menuitem]:not(:disabled)") ?? [])].filter(
      (item) => item instanceof HTMLElement,
    );

  useEffect(() => {
    if (!open) return undefined;
    items()[0]?.focus();
    const elsewhere = (/** @type {Event} */ event) => {
      if (!(event.target instanceof Node && root.current?.contains(event.target))) setOpen(false);
    };
    addEventListener("pointerdown", elsewhere);
    addEventListener("focusin", elsewhere);
    return () => {
      removeEventListener("pointerdown", elsewhere);
      removeEventListener("focusin", elsewhere);
    };
  }, [open]);

  const shut = () => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const chosen = (/** @type {Event} */ event) => closes(event) && setOpen(false);
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (!open) return;
    const all = items();
    const at = all.findIndex((item) => item === document.activeElement);
    if (event.key === "Escape") shut();
    else if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at - 1 + all.length) % all.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <span class="menu" ref=${root} onKeyDown=${key}>
      <button class="btn icon quiet" type="button" aria-label=${label} aria-haspopup="menu"
        aria-expanded=${open ? "true" : "false"} aria-controls=${open ? id : undefined}
        onClick=${() => setOpen(!open)}><${Icon} name="dots" /></button>
      ${open && html`<div class="items" role="menu" id=${id} aria-label=${label} onClick=${chosen}>${children}</div>`}
    </span>`;
}

/** A click on a link or a plain item closes the menu; one that arms an item leaves it open. @param {Event} event */
function closes(event) {
  const item = event.target instanceof Element && event.target.closest("[role=menuitem]");
  return item && item.matches("a, [data-closes]");
}
