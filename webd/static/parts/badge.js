/** How much waits, where the eye is when the page is not: the favicon, and the app's badge where there is one. */

const GROUND = '<rect width="24" height="24" rx="4" fill="#0c0a12"/>';
const HEXAGON =
  '<path d="M12 2.3 20.4 7.2v9.6L12 21.7 3.6 16.8V7.2z" fill="#cda9ff22" stroke="#cda9ff" stroke-width="1.5"/>';
const BOLT = '<path d="M13.3 5.5 7.8 13h3.6l-.8 5.5L16.2 11h-3.6z" fill="#ffb84d"/>';
const DISC = '<circle cx="17" cy="7" r="7" fill="#ffb84d"/>';
let shown = 0;

/** @param {number} count */
export function showCount(count) {
  if (count === shown) return;
  shown = count;
  const icon = document.querySelector("link[rel=icon]");
  if (icon instanceof HTMLLinkElement) {
    icon.dataset.plain ??= icon.href;
    icon.href = count ? badged(count) : icon.dataset.plain;
  }
  const badge = count ? navigator.setAppBadge?.(count) : navigator.clearAppBadge?.();
  badge?.catch(() => {}); // not installed as an app: there is nowhere to show it
}

/** @param {number} count */
function badged(count) {
  const said = count > 9 ? "9+" : String(count);
  const size = said.length > 1 ? 9 : 11;
  const type = `text-anchor="middle" font-family="monospace" font-size="${size}" font-weight="700" fill="#221300"`;
  const number = `<text x="17" y="10.6" ${type}>${said}</text>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">${GROUND}${HEXAGON}${BOLT}${DISC}${number}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
