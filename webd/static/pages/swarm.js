/** The page `/`: the swarm, what is deployed, what waits for the operator, what is due, and the message flow. */
import { html } from "../html.js";
import { Calls } from "../panes/calls.js";
import { Deploys } from "../panes/deploys.js";
import { Drafts } from "../panes/drafts.js";
import { Kept } from "../panes/kept.js";
import { Matrix } from "../panes/matrix.js";
import { Questions } from "../panes/questions.js";
import { Schedules } from "../panes/schedules.js";
import { Swarm } from "../panes/swarm.js";

export const SwarmPage = () => html`
  <div class="deck">
    <main class="main" id="main" tabindex="-1">
      <h1 class="sr">swarm</h1>
      <${Swarm} />
      <${Deploys} />
      <${Schedules} />
      <${Matrix} />
      <${Drafts} />
      <${Kept} />
    </main>
    <aside class="rail" aria-label="what waits for you">
      <${Questions} />
      <${Calls} />
    </aside>
  </div>`;
