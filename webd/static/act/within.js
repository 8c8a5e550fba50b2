/** Links within a page: they change the address without loading anything; with a modifier they are links as any other. */

/**
 * @param {(href: string) => void} go
 * @returns {(event: MouseEvent) => void}
 */
export const within = (go) => (event) => {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(/** @type {HTMLAnchorElement} */ (event.currentTarget).getAttribute("href") ?? "");
};
