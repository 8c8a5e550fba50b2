/** A small chart with its name, its newest or highest value, and what each step was on hover. Shapes of ours, no library. */
import { html } from "../html.js";
import { zone } from "../live/clock.js";
import { barPath, HEIGHT, highest, linePath, WIDTH } from "../words/charts.js";
import { absolute, until } from "../words/times.js";

/** @import {Values} from "../words/charts.js" */

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} tone                 green, amber, mauve, rose
 * @property {Values} values
 * @property {boolean} [bars]
 */

/**
 * @typedef {object} ChartProps
 * @property {string} name
 * @property {string} value                what is said beside the name
 * @property {readonly number[]} at_ms     when each step begins
 * @property {number} to_ms                where the last step ends
 * @property {readonly Series[]} series
 * @property {(value: number) => string} [words]
 */

/** @param {ChartProps} props */
export function Chart({ name, value, at_ms, to_ms, series, words = String }) {
  const most = Math.max(0, ...series.map((one) => highest(one.values)));
  const said = (/** @type {number} */ place) =>
    series
      .map((one) => `${one.name} ${one.values[place] === null ? "unknown" : words(one.values[place] ?? 0)}`)
      .join(", ");
  const step = WIDTH / Math.max(1, at_ms.length);
  const top = most ? words(most) : "0";
  return html`
    <figure class="chart">
      <figcaption><span>${name}</span><b class="num">${value}</b></figcaption>
      <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img"
        aria-label=${`${name}: ${value}; at most ${top} in one step`}>
        <path class="grid" d=${`M0 ${HEIGHT / 2}H${WIDTH}M0 0H${WIDTH}`} vector-effect="non-scaling-stroke" />
        ${series.map((one) =>
          one.bars
            ? html`<path class=${`bars ${one.tone}`} d=${barPath(one.values, most)} />`
            : html`<path class=${`line ${one.tone}`} d=${linePath(one.values, most)} vector-effect="non-scaling-stroke" />`,
        )}
        ${at_ms.map(
          (ms, place) =>
            html`<rect class="hit" x=${place * step} y="0" width=${step} height=${HEIGHT}><title>${absolute(ms, zone.value)}: ${said(place)}</title></rect>`,
        )}
      </svg>
      <p class="axis" aria-hidden="true">${[at_ms[0], to_ms].map((ms) => ms !== undefined && html`<span>${until(ms, to_ms, zone.value)}</span>`)}</p>
    </figure>`;
}
