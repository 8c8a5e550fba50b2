/** One line below the swarm: what the hive keeps on its disk, and what is left. */
import { html, useEffect, useState } from "../html.js";
import { numbers } from "../live/numbers.js";
import { count, size } from "../words/amounts.js";

/** @import {Numbers} from "../live/numbers.js" */

const EVERY_MS = 60_000;

export function Sizes() {
  const [asked, setAsked] = useState(/** @type {Numbers | null} */ (null));
  useEffect(() => {
    const made = numbers("since=24h", EVERY_MS);
    setAsked(made);
    return made.stop;
  }, []);
  const told = asked?.told.value;
  if (!told) return html`<p class="sizes">${asked?.fault.value ? `sizes: ${asked.fault.value}` : "\u00a0"}</p>`;
  const { disk } = told;
  const tight = disk.free_bytes < 2 * disk.reserve_bytes;
  return html`
    <p class="sizes" aria-label="what is kept">
      <span>${count(told.messages, "message")} today, ${count(told.messages_kept, "kept", "kept")} in <b>${size(disk.messages_bytes)}</b></span>
      <span>history <b>${size(disk.events_bytes)}</b></span>
      <span>logs <b>${size(disk.log_bytes)}</b></span>
      <span>backups <b>${size(disk.backups_bytes)}</b></span>
      <span class=${tight ? "bad" : ""}><b>${size(disk.free_bytes)}</b> free</span>
      <span>${count(told.reminders_open, "reminder")} to fire</span>
    </p>`;
}
