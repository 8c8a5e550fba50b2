/** Names: which are allowed for an agent, how a tool is called in the tail, and how prose is cut at code. Pure. */

const RESERVED = new Set("manager operator system all host shared self privd webd brokerd egressd".split(" "));
export const NAME_CHARS_MAX = 9;

/**
 * What is wrong with a name for a new agent, in a sentence; "" when nothing is.
 * @param {string} name
 * @param {ReadonlySet<string>} taken
 */
export function nameProblem(name, taken) {
  if (!name) return "";
  if (name.length > NAME_CHARS_MAX) return `a name has at most ${NAME_CHARS_MAX} characters`;
  if (!/^[a-z]/.test(name)) return "a name starts with a small letter a–z";
  if (!/^[a-z0-9]+$/.test(name)) return "small letters and digits only";
  if (RESERVED.has(name)) return `${name} is reserved`;
  return taken.has(name) ? `${name} exists already` : "";
}

/**
 * `mcp__notes__send` is shown as `notes.send`, `Bash` as it is.
 * @param {string} tool
 */
export function toolName(tool) {
  const [, server, name] = /^mcp__(.+?)__(.+)$/.exec(tool) ?? [];
  return server ? `${server}.${name}` : tool;
}

/**
 * `/model opus` as an order to use that model, `/model` alone to use the one of the settings; null for everything else.
 * @param {string} text
 */
export function modelOrdered(text) {
  const [all, model] = /^\/model(?:\s+(\S+))?$/.exec(text.trim()) ?? [];
  return all === undefined ? null : { model: model ?? null };
}

/**
 * Prose cut at `code`: even pieces are prose, odd ones code. Unpaired or empty ticks stay prose.
 * @param {string} text
 * @returns {string[]}
 */
export const proseAndCode = (text) => text.split(/`([^`\n]+)`/);
