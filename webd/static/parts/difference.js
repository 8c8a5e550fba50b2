/**
 * What changes in files, line by line. The sign says what happens to a line, its colour only repeats it; long lines are
 * broken, never cut: nothing can be written so far to the right that it is not seen.
 */
import { html } from "../html.js";
import { count } from "../words/amounts.js";
import { rowsOf, sizesWords, tally } from "../words/differences.js";

/** @import {DiffLine, FileDiff} from "../types/configuration" */

const TONE = { "+": "add", "-": "del", " ": "" };
const SAID = { "+": "added: ", "-": "removed: ", " ": "" };
const SIGN = { "+": "+", "-": "−", " ": " " };

/** @param {{row: DiffLine | {skipped: number}}} props */
const Row = ({ row }) =>
  "skipped" in row
    ? html`<tr class="skip"><td></td><td>⋯ ${count(row.skipped, "line")} as before</td></tr>`
    : html`<tr class=${TONE[row.kind]}>
        <td data-n=${row.after ?? row.before}></td>
        <td><i aria-hidden="true">${SIGN[row.kind]}</i>${row.kind !== " " && html`<span class="sr">${SAID[row.kind]}</span>`}${row.text}</td>
      </tr>`;

/** @param {{file: FileDiff, by: string}} props */
function Changed({ file, by }) {
  const { added, removed } = tally(file.lines);
  return html`
    <details class="changed" data-path=${file.path} open>
      <summary><b>${file.path}</b> <small>${sizesWords(file)}</small>
        <span class="num"><ins>+${added}</ins> <del>−${removed}</del></span></summary>
      <div class="diff" role="region" aria-label=${`changes to ${file.path}${by && ` by ${by}`}`} tabindex="0">
        <table><tbody>
          ${rowsOf(file.lines).map((row, i) => html`<${Row} key=${i} row=${row} />`)}
          ${file.cut && html`<tr class="skip"><td></td><td>⋯ more than is shown here</td></tr>`}
          ${!file.lines.length && !file.cut && html`<tr class="skip"><td></td><td>nothing to read in it</td></tr>`}
        </tbody></table>
      </div>
    </details>`;
}

/** @param {{files: readonly FileDiff[], by?: string}} props   `by`: whose they are, where a page shows several */
export const Difference = ({ files, by = "" }) =>
  files.length
    ? html`<div class="difference">${files.map((file) => html`<${Changed} key=${file.path} file=${file} by=${by} />`)}</div>`
    : html`<p class="fine">no file is another one.</p>`;
