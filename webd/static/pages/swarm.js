/** The page `/`: the swarm, what waits for the operator, and the message flow. */
import { html } from "../html.js";
import { Calls } from "../panes/calls.js";
import { Matrix } from "../panes/matrix.js";
import { Swarm } from "../panes/swarm.js";

export const SwarmPage = () => html`
  <div class="deck">
    <main class="main" id="main" tabindex="-1">
      <h1 class="sr">swarm</h1>
      <${Swarm} />
      <${Matrix} />
    </main>
    <${Calls} />
  </div>`;
