/** What cannot be drawn says so where it would stand, and takes nothing else with it. */
import { html } from "../html.js";
import { Component } from "../vendor/preact.js";

/** @import {ComponentChildren} from "../vendor/preact.js" */

/** @extends {Component<{what: string, children?: ComponentChildren}, {fault: string}>} */
export class Guarded extends Component {
  /** @param {{what: string, children?: ComponentChildren}} props */
  constructor(props) {
    super(props);
    this.state = { fault: "" };
  }

  /** @param {unknown} error */
  static getDerivedStateFromError(error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }

  /** What has changed since is tried again. @param {{children?: ComponentChildren}} before */
  componentDidUpdate(before) {
    if (this.state.fault && before.children !== this.props.children) this.setState({ fault: "" });
  }

  render() {
    const { fault } = this.state;
    if (!fault) return this.props.children;
    return html`<p class="undrawn" role="alert"><b>✕ ${this.props.what}</b> could not be drawn: ${fault}</p>`;
  }
}
