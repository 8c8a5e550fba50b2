/** What crosses the wire between webd and the page: the types of docs/reference/http.md, written once for `tsc`. */

import type { Approver, FileDiff } from "./configuration";

export type AgentState =
  | "idle" | "thinking" | "starting" | "stopping" | "offline" | "crashed" | "failed" | "limited" | "parked";

export interface Agent {
  name: string;
  role: "agent" | "manager";
  state: AgentState;
  since_ms: number;
  doing: string;
  runner: "demo" | "claude";
  /** Of its next turn; null where no model drives it. */
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
  /** When the limit that holds it is said to end. */
  until_ms: number | null;
  /** The operator wants no turn to begin. */
  paused: boolean;
  /** The model account that pays for it. */
  account: string;
  /** That account, while its limit holds the agent. */
  limited_by: string | null;
  limits: CageLimits;
  /** Where it may connect to, beside the model API. */
  egress_hosts: string[];
  /** Of its configuration: what is deployed. */
  generation: number | null;
  /** Why its cage, which runs, still is what was before; "" when it is not. */
  stale: string;
  /** A sign or two of its own; "" for none. */
  icon: string;
  pronouns: string;
}

/** An agent without a cage: what a destroyed one left, or a draft. */
export interface Kept {
  name: string;
  role: "agent" | "manager";
  since_ms: number;
  runner: "demo" | "claude";
  model: string | null;
}

export type ProposalKind = "init" | "spawn" | "config";
export type ProposalState = "open" | "denied" | "withdrawn" | "expired" | "approved" | "deployed" | "failed";

/** One thing that a configuration would change in what the agent may or has. null: not there. */
export interface CapabilityChange {
  subject: string;
  before: string | null;
  after: string | null;
  /** Worth a look: it gives more than there was, or names something outside. */
  notable: boolean;
}

export interface Proposal {
  agent: string;
  number: number;
  kind: ProposalKind;
  state: ProposalState;
  commit: string;
  tree: string;
  /** What was deployed when it was made. */
  base: string | null;
  by: "manager" | "operator";
  description: string;
  proposed_ms: number;
  expires_ms: number;
  /** In a list only the first ones. */
  capabilities: CapabilityChange[];
  decided_ms: number | null;
  proof: string;
  /** Who has approved while it still waits for another one. */
  approvals: string[];
  reason: string;
}

/** Everything that is needed to decide; `digest` may be approved once. */
export interface ProposalPage {
  proposal: Proposal;
  current_base: string | null;
  diff: FileDiff[];
  /** What a key signs, as it is. Empty once it was decided. */
  document: string;
  digest: string;
  code: string;
  /** Keys that may decide it; empty while a click is enough. */
  approvers: Approver[];
}

export type DeploymentState =
  | "waiting" | "building" | "switching" | "checking" | "deployed" | "returned" | "cancelled";

export interface Deployment {
  agent: string;
  number: number;
  kind: "init" | "spawn" | "config" | "rollback";
  state: DeploymentState;
  commit: string;
  began_ms: number;
  since_ms: number;
  ended_ms: number | null;
  /** With a rollback: the generation whose content it is. */
  of: number | null;
  /** Why it was returned, or what it waits for. */
  detail: string;
}

export interface BuildLine {
  /** The byte where it starts: its identity and its order. */
  offset: number;
  text: string;
}

/** The newest lines of one deployment's log. */
export interface Build {
  agent: string;
  number: number;
  lines: BuildLine[];
}

export interface BuildPage {
  lines: BuildLine[];
  before: number | null;
}

export interface StateEntry {
  /** As text: what is not printable stands as `\\xNN`, a backslash as two; a path is written the same way. */
  name: string;
  kind: "file" | "folder" | "link" | "other";
  bytes: number;
  modified_ms: number;
}

export interface StatePage {
  entries: StateEntry[];
  after: string | null;
}

export interface FilePart {
  path: string;
  offset: number;
  total_bytes: number;
  modified_ms: number;
  /** null: not text. */
  text: string | null;
  /** Where the next part begins. */
  next: number | null;
}

export interface StateSize {
  bytes: number;
  files: number;
  /** Whether everything was counted. */
  complete: boolean;
}

/** What a cage may use; null leaves it to the host. */
export interface CageLimits {
  memory_mib_max: number | null;
  tasks_max: number | null;
  cpu_percent_max: number | null;
  files_max: number | null;
  disk_mib_max: number | null;
}

export interface AccountWindow {
  name: string;
  limit: number | null;
  remaining: number | null;
  used_permille: number | null;
  resets_ms: number | null;
}

/** A model account. */
export interface Account {
  name: string;
  /** When egressd last saw a reply to one of its agents. */
  seen_ms: number | null;
  windows: AccountWindow[];
  limited_since_ms: number | null;
  limited_until_ms: number | null;
  /** `egressd`, or the agent whose turn met the limit. */
  said_by: string;
  detail: string;
  /** Agents that it holds, in the order in which they go on. */
  held: string[];
}

/** An agent was turned away on its way out. */
export interface EgressRefusal {
  id: number;
  agent: string;
  why: "not_allowed" | "leads_inside" | "malformed" | "connections" | "volume" | "model_path";
  /** Empty: too many different ones in an hour. */
  host: string;
  port: number;
  times: number;
  first_ms: number;
  at_ms: number;
}

/** How often a cage met one of its limits. */
export interface LimitHit {
  agent: string;
  resource: "memory" | "tasks" | "disk";
  times: number;
  first_ms: number;
  at_ms: number;
  detail: string;
}

export type DeliveryState = "held" | "queued" | "leased" | "in_turn" | "done" | "dead";

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
  event: SystemEvent | null;
  /** The question or the reminder that `event` is about. */
  about: number | null;
  hops: number;
}

export type SystemEvent =
  | "container_crash" | "rebuilt" | "deployed" | "deploy_failed" | "approved" | "denied"
  | "question" | "answered" | "expired" | "reminder" | "rate_limited" | "resumed" | "limit_hit";

export interface Question {
  id: number;
  asker: string;
  /** `operator` or an agent. */
  asked_of: string;
  text: string;
  options: string[];
  multi: boolean;
  state: "open" | "answered" | "expired" | "closed";
  asked_ms: number;
  deadline_ms: number | null;
  answer: string;
  choices: string[];
  answered_by: string | null;
  ended_ms: number | null;
}

/** A stored row that cannot be read. */
export interface Broken {
  id: number;
  fault: string;
}

export interface ParkedThread {
  thread: number;
  agents: string[];
  hops: number;
  held: number;
  since_ms: number;
}

export type Schedule =
  | { kind: "once"; at_ms: number }
  | { kind: "every"; every_s: number; from_ms: number }
  | { kind: "cron"; expression: string; zone: string };

export interface Reminder {
  id: number;
  agent: string;
  set_by: string;
  body: string;
  schedule: Schedule;
  state: "active" | "ended" | "cancelled";
  created_ms: number;
  only_if: string | null;
  next_ms: number | null;
  last_ms: number | null;
  attempted: number;
  delivered: number;
  failed: number;
  skipped: number;
}

export interface Traffic {
  peer: number;
  operator: number;
  manager: number;
  system: number;
}

export interface Bucket {
  at_ms: number;
  turns: number;
  failed: number;
  tool_calls: number;
  duration_p50_ms: number | null;
  duration_p95_ms: number | null;
  inbox_max: number;
  sent: number;
  received: number;
  output_tokens: number;
  cost_microusd: number;
  notes_bytes: number | null;
}

export interface AgentStatistics {
  agent: string;
  turns: number;
  turns_per_minute: number;
  tool_calls_per_turn: number;
  duration_p50_ms: number | null;
  duration_p95_ms: number | null;
  outcomes: Partial<Record<Outcome, number>>;
  inbox: number;
  inbox_max: number;
  sent: Traffic;
  received: Traffic;
  tools: Record<string, number>;
  last_turn_ms: number | null;
  notes_bytes: number | null;
  usage: Usage;
  reminders: { since_ms: number; attempted: number; delivered: number; failed: number; skipped: number; waiting: number };
  series: Bucket[];
}

export interface Disk {
  messages_bytes: number;
  events_bytes: number;
  log_bytes: number;
  backups_bytes: number;
  free_bytes: number;
  reserve_bytes: number;
}

export interface Statistics {
  since_ms: number;
  at_ms: number;
  bucket_ms: number;
  agents: AgentStatistics[];
  messages: number;
  messages_kept: number;
  questions_open: number;
  reminders_open: number;
  threads_parked: number;
  approvals_waiting: number;
  disk: Disk;
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
  tool_calls: number;
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
  /** A click is enough to approve: no key is enrolled. */
  click: boolean;
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
  questions?: Record<string, Question | Broken>;
  parked?: Record<string, ParkedThread>;
  reminders?: Record<string, Reminder>;
  accounts?: Record<string, Account>;
  refusals?: Record<string, EgressRefusal>;
  limits?: Record<string, LimitHit>;
  kept?: Record<string, Kept>;
  drafts?: Record<string, Kept>;
  proposals?: Record<string, Proposal>;
  deployments?: Record<string, Deployment>;
  builds?: Record<string, Build>;
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
  page: { kind: "swarm" | "agent" | "files" | "stats" | "journal" | "config" | "meta" | "enrol"; agent?: string };
  session: { operator: string };
}

/** One event of the stream, as the page takes it in. */
export interface Arrival {
  topic: string;
  key: string | null;
  data: unknown;
}
