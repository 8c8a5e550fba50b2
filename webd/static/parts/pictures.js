/**
 * Small drawings: icons, sigils, the mark of the hive, the bars of the last hour. All are shapes of ours.
 */
import { html } from "../html.js";
import { sigil } from "../words/sigils.js";

const ICONS = {
  search: "M16.5 10.5a6 6 0 1 1-12 0 6 6 0 0 1 12 0zM15 15l5.5 5.5",
  dots: "M12 4.2v1.6M12 11.2v1.6M12 18.2v1.6",
  plus: "M12 4.5v15M4.5 12h15",
  x: "m6 6 12 12M18 6 6 18",
  check: "m4.5 12.5 5 5L19.5 7",
  swarm: "M8 3.5 12 5.8v4.6L8 12.7l-4-2.3V5.8zM16 3.5l4 2.3v4.6l-4 2.3-4-2.3M12 10.4v0l4 2.3v4.6l-4 2.3-4-2.3v-4.6",
  call: "M4 5h16v11.5h-8L7 20.5v-4H4zM12 8v4M12 14.2v.1",
  matrix: "M3.5 8h12M12.5 5l3 3-3 3M20.5 16h-12M11.5 13l-3 3 3 3",
  journal: "M5 4h14v16H5zM8.5 8.5h7M8.5 12h7M8.5 15.5h4",
  tail: "M4 5h16v14H4zM7.5 9.5 10.5 12l-3 2.5M12.5 15h4",
  send: "M12 19.5v-15M5.5 11 12 4.5l6.5 6.5",
  stop: "M6.5 6.5h11v11h-11z",
  start: "M8 5.5v13l10.5-6.5z",
  pause: "M8.5 6v12M15.5 6v12",
  stats: "M4.5 20v-8h4v8M10 20V5h4v15M15.5 20v-6h4v6M3 20h18",
  question: "M8.6 9.2a3.5 3.5 0 1 1 5.4 2.9c-1.3.9-2 1.6-2 3.1M12 18.6v.1",
  restart: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3M19.5 3.5v4h-4",
  clock: "M20.5 12a8.5 8.5 0 1 1-17 0 8.5 8.5 0 0 1 17 0zM12 7v5.5l3.5 2",
  reply: "M9.5 6 4 11.5 9.5 17M4.5 11.5H14a6 6 0 0 1 6 6V19",
  box: "M4 8.5 12 4l8 4.5v7L12 20l-8-4.5zM4 8.5l8 4.5 8-4.5M12 13v7",
  deploy: "M12 3.5 20 8v8l-8 4.5L4 16V8zM4 8l8 4.5L20 8M12 12.5v8",
  keys: "M3.5 6.5h17v11h-17zM7 10v.1M10.3 10v.1M13.7 10v.1M17 10v.1M8 14h8",
};

/** @typedef {keyof typeof ICONS} IconName */

/** @param {{name: IconName}} props */
export const Icon = ({ name }) =>
  html`<svg class=${name === "dots" ? "i bold" : "i"} viewBox="0 0 24 24" aria-hidden="true"><path
    d=${ICONS[name]} /></svg>`;

/** @param {{shape: import("../words/sigils.js").Shape}} props */
function ShapeOf({ shape: { d, cx, cy, r, rx, ry, filled } }) {
  const fill = filled ? "currentColor" : undefined;
  if (d) return html`<path d=${d} fill=${fill} />`;
  if (r) return html`<circle cx=${cx} cy=${cy} r=${r} fill=${fill} />`;
  return html`<ellipse cx=${cx} cy=${cy} rx=${rx} ry=${ry} fill=${fill} />`;
}

/** @param {{name: string, tone?: string, large?: boolean}} props */
export const Sigil = ({ name, tone = "", large = false }) => html`
  <span class=${`sigil ${tone} ${large ? "l" : ""}`} aria-hidden="true">
    <svg class="i" viewBox="0 0 24 24">${sigil(name).map((shape) => html`<${ShapeOf} shape=${shape} />`)}</svg>
  </span>`;

export const Mark = () => html`
  <svg viewBox="0 0 24 24" aria-hidden="true">
    <path d="M12 1.8 20.8 6.9v10.2L12 22.2 3.2 17.1V6.9z" fill="#cda9ff1f" stroke="#cda9ff" stroke-width="1.5" />
    <path d="M13.3 5.2 7.6 13h3.7l-.8 5.8L16.4 11h-3.7z" fill="#ffb84d" />
  </svg>`;

const BAR = 4;
const HEIGHT = 22;

/** Turns in the last hour, 24 bars of 2.5 minutes. @param {{pulse: number[], wide?: boolean}} props */
export function Pulse({ pulse, wide = false }) {
  const most = Math.max(4, ...pulse);
  const d = pulse
    .map((turns, i) => {
      const tall = turns ? Math.max(2, Math.round((turns / most) * HEIGHT)) : 1;
      return `M${i * BAR} ${HEIGHT - tall}h3v${tall}h-3z`;
    })
    .join("");
  const total = pulse.reduce((sum, turns) => sum + turns, 0);
  const label = `${total} ${total === 1 ? "turn" : "turns"} in the last hour`;
  return html`<svg class="spark" viewBox="0 0 95 22" preserveAspectRatio=${wide ? "none" : undefined} role="img"
    aria-label=${label}><title>${label}</title><path d=${d} /></svg>`;
}
