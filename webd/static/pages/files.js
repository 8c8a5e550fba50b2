/** The page `/agent/<name>/state`: an agent's own files, a folder beside the file that is open. All of it is text. */
import { html, useEffect, useMemo } from "../html.js";
import { within } from "../act/within.js";
import { Gone } from "../agent/gone.js";
import { Header } from "../agent/header.js";
import { below, Files, folderOf, PARTS_MAX, sizeWords, trail } from "../live/files.js";
import { agentNow } from "../live/store.js";
import { Empty } from "../parts/head.js";
import { Icon } from "../parts/pictures.js";
import { Since } from "../parts/times.js";
import { count, size } from "../words/amounts.js";

/** @import {StateEntry} from "../types/wire" */
/** @import {Folder, Opened} from "../live/files.js" */

const GLYPH = { folder: "▸", file: "·", link: "↪", other: "○" };
const NOT_READ = { link: "a link: links are not followed", other: "no regular file: a pipe, a socket or a device" };

/** @param {string} folder @param {string | null} [file] */
function address(folder, file = null) {
  const query = new URLSearchParams();
  if (folder) query.set("in", folder);
  if (file !== null) query.set("file", file);
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

function asked() {
  const query = new URLSearchParams(location.search);
  const file = query.get("file");
  return { folder: query.get("in") ?? (file === null ? "" : folderOf(file)), file };
}

/** @param {{folder: Folder, entry: StateEntry, current: boolean, go: (href: string) => void}} props */
function Row({ folder, entry: { name, kind, bytes, modified_ms }, current, go }) {
  const path = below(folder.path, name);
  const href = kind === "folder" ? address(path) : address(folder.path, path);
  return html`
    <tr class=${`is-${kind}`} data-name=${name}>
      <th scope="row"><div>
        <i aria-hidden="true">${GLYPH[kind]}</i>
        ${
          kind === "folder" || kind === "file"
            ? html`<a href=${href} data-step aria-current=${current ? "true" : undefined} title=${name}
              onClick=${within(go)}>${name}${kind === "folder" ? "/" : ""}</a>`
            : html`<span title=${NOT_READ[kind]}>${name}<span class="sr">, ${NOT_READ[kind]}</span></span>`
        }
      </div></th>
      <td class="num">${kind === "file" ? size(bytes) : ""}</td>
      <td class="when"><${Since} ms=${modified_ms} after=" ago" /></td>
    </tr>`;
}

/** @param {{files: Files, go: (href: string) => void}} props */
function List({ files, go }) {
  const folder = files.folder.value;
  const open = files.opened.value?.path;
  const { entries, after, fault } = folder;
  return html`
    <section class="listing" aria-label="folder">
      ${fault && html`<p class="problem" role="status">${fault}</p>`}
      ${entries === null && !fault && html`<p class="fine loading">looking…</p>`}
      ${entries?.length === 0 && html`<${Empty} title="an empty folder.">what the agent writes here lands here.<//>`}
      ${
        entries !== null &&
        entries.length > 0 &&
        html`
        <table class="entries">
          <thead class="sr"><tr><th scope="col">name</th><th scope="col">size</th><th scope="col">changed</th></tr></thead>
          <tbody>
            ${entries.map((entry) => html`<${Row} key=${entry.name} folder=${folder} entry=${entry} go=${go}
              current=${below(folder.path, entry.name) === open} />`)}
          </tbody>
        </table>`
      }
      ${after !== null && html`<button class="btn quiet" type="button" onClick=${() => files.more()}>show more</button>`}
    </section>`;
}

/** @param {{opened: Opened}} props */
function Content({ opened: { parts, fault } }) {
  if (fault) return html`<p class="problem" role="status">${fault}</p>`;
  if (!parts.length) return html`<p class="fine loading">reading…</p>`;
  if (parts.some((part) => part.text === null))
    return html`<${Empty} title="not text.">its bytes are not shown here; download it to look into it.<//>`;
  if (parts[0].total_bytes === 0) return html`<${Empty} title="an empty file."><//>`;
  return html`<pre class="content" tabindex="0" aria-label="content of the file">${parts.map((part) => part.text)}</pre>`;
}

/** @param {{files: Files, opened: Opened, go: (href: string) => void}} props */
function View({ files, opened, go }) {
  const { path, parts } = opened;
  const last = parts.at(-1);
  const name = trail(path).at(-1)?.name ?? path;
  const is_long = parts.length >= PARTS_MAX;
  return html`
    <section class="viewer" aria-labelledby="h-file">
      <div class="what">
        <h2 id="h-file" title=${path}>${name}</h2>
        ${last && html`<p>${size(last.total_bytes)} · <${Since} ms=${last.modified_ms} after=" ago" /></p>`}
        <a class="btn" href=${files.download(path)} download>download</a>
        <a class="btn quiet icon" href=${address(files.folder.value.path)} aria-label="close the file"
          onClick=${within(go)}><${Icon} name="x" /></a>
      </div>
      <${Content} opened=${opened} />
      ${
        last?.next &&
        html`<div class="on">${
          is_long
            ? html`<p class="fine">the first ${size(last.next)} of ${size(last.total_bytes)}; download it for the rest.</p>`
            : html`<button class="btn quiet" type="button" onClick=${() => files.further()}>read on</button>
              <p class="fine">${size(last.next)} of ${size(last.total_bytes)}</p>`
        }</div>`
      }
    </section>`;
}

/** Where we are, and what everything takes. @param {{files: Files, go: (href: string) => void}} props */
function Bar({ files, go }) {
  const { path, entries, after } = files.folder.value;
  const steps = trail(path);
  const told = files.size.value;
  return html`
    <div class="bar">
      <nav class="trail" aria-label="folders">
        <a href=${address("")} aria-current=${steps.length ? undefined : "page"} onClick=${within(go)}>state</a>
        ${steps.map(({ name, path: to }, i) => html`<span aria-hidden="true">/</span><a href=${address(to)}
          aria-current=${i === steps.length - 1 ? "page" : undefined} onClick=${within(go)}>${name}</a>`)}
      </nav>
      <p class="fine">${entries && `${count(entries.length, "entry", "entries")}${after === null ? "" : " so far"}`}</p>
      <p class="fine end">${told && `all of it: ${sizeWords(told, size, count)}`}</p>
      <button class="btn quiet icon" type="button" aria-label="look again" title="look again"
        onClick=${() => files.refresh()}><${Icon} name="restart" /></button>
    </div>`;
}

/** @param {{name: string}} props */
export function FilesPage({ name }) {
  const files = useMemo(() => new Files(name), [name]);
  const agent = agentNow(name);
  const follow = () => {
    const { folder, file } = asked();
    files.show(folder, file);
  };
  const go = (/** @type {string} */ href) => {
    history.pushState(null, "", href);
    follow();
  };
  useEffect(() => {
    follow();
    void files.measure();
    addEventListener("popstate", follow);
    return () => removeEventListener("popstate", follow);
  }, [files]);
  const opened = files.opened.value;
  return html`
    <main class="agent alone" id="main" tabindex="-1">
      <${Header} name=${name} agent=${agent} view="files" />
      <div class="files">
        <${Bar} files=${files} go=${go} />
        <div class=${`panels ${opened ? "is-open" : ""}`}>
          <${List} files=${files} go=${go} />
          ${opened && html`<${View} files=${files} opened=${opened} go=${go} />`}
        </div>
        ${!agent && html`<${Gone} name=${name} />`}
      </div>
    </main>`;
}
