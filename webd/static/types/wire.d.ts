/** What crosses the wire between webd and the page: the types of docs/reference/http.md, written once for `tsc`. */

export type AgentState =
  | "idle" | "thinking" | "starting" | "stopping" | "offline" | "crashed" | "failed" | "limited" | "parked";

export interface Agent {
  name: string;
  role: "agent" | "manager";
  state: AgentState;
  since_ms: number;
  doing: string;
  runner: "demo" | "claude";
  model: string | null;
  inbox: number;
  turn: number | null;
  last_turn_ms: number | null;
  up_since_ms: number | null;
  backend: string;
  degraded: string[];
  /** Turns in the last hour by 2.5 minutes, oldest first. */
  pulse: number[];
  /** Why it failed, crashed, is limited or parked. */
  detail: string;
}

export type DeliveryState = "queued" | "leased" | "in_turn" | "done" | "dead";

export interface Delivery {
  id: number;
  recipient: string;
  state: DeliveryState;
  turn: number | null;
  attempts: number;
  changed_ms: number;
}

export interface Message {
  id: number;
  thread: number;
  in_reply_to: number | null;
  sender: string;
  to: string;
  broadcast: boolean;
  body: string;
  sent_ms: number;
  deliveries: Delivery[];
}

export type Outcome =
  | "done" | "cancelled" | "rate_limited" | "overloaded" | "auth" | "billing"
  | "context_full" | "max_turns" | "budget" | "crashed" | "interrupted" | "timeout";

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  cost_microusd: number;
}

export interface Turn {
  id: number;
  agent: string;
  began_ms: number;
  ended_ms: number | null;
  outcome: Outcome | null;
  woke_by: string;
  message: number | null;
  usage: Usage | null;
  detail: string;
}

interface Numbered {
  turn: number;
  n: number;
  at_ms: number;
}

export type Woken = Numbered & { kind: "woken"; sender: string; text: string };
export type ToolCalled = Numbered & { kind: "tool_called"; call: string; tool: string; summary: string; input: string };
export type ToolReturned = Numbered & { kind: "tool_returned"; call: string; ok: boolean; text: string; duration_ms: number | null };
export type Spoken = Numbered & { kind: "said" | "thought" | "noted" | "failed"; text: string };
export type TurnEvent = Woken | ToolCalled | ToolReturned | Spoken;

export interface Line {
  /** Byte offset where the line starts: its identity and its order. */
  offset: number;
  at_ms: number | null;
  level: "info" | "warn" | "err";
  text: string;
}

export interface Hive {
  name: string;
  version: string;
  backend: string;
  separated: boolean;
  notices: string[];
  operator: string;
  daemons: Record<string, "up" | "down">;
  totals: { messages_hour: number };
}

export interface TailPage {
  turns: Turn[];
  events: TurnEvent[];
  more: boolean;
}

export interface Topics {
  hive?: { hive: Hive };
  agents?: Record<string, Agent>;
  flow?: Message[];
  unread?: Message[];
  [topic: string]: unknown;
}

export interface Snapshot {
  why: "new" | "gap" | "slow";
  now_ms: number;
  topics: Topics;
}

export interface Boot {
  cursor: string;
  snapshot: Snapshot;
  page: { kind: "swarm" | "agent" | "journal"; agent?: string };
  session: { operator: string };
}

/** One event of the stream, as the page takes it in. */
export interface Arrival {
  topic: string;
  key: string | null;
  data: unknown;
}
