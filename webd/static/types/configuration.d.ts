/** Configurations on the wire: the record that the tags are, differences of files, and the keys that decide. */

export type Mark = "proposal" | "agreed" | "approved" | "denied" | "building" | "deployed" | "failed";

/** A branch or a tag of an applied repository, or of the meta repository. */
export interface Ref {
  name: string;
  commit: string;
  /** The tag's message; null for a branch, and for a tag that holds no document. */
  document: RecordDocument | null;
}

/** What the documents of all marks may hold; which of it, the mark tells. */
export interface RecordDocument {
  kind?: string;
  commit?: string;
  base?: string | null;
  by?: string;
  description?: string;
  proposed_ms?: number;
  expires_ms?: number;
  at_ms?: number;
  words?: Word[];
  word?: Word;
  end?: string;
  reason?: string;
  cancelled?: boolean;
  of?: number | null;
  began_ms?: number;
  asked?: RecordDocument | null;
  approved?: RecordDocument | null;
  begun?: RecordDocument | null;
  [more: string]: unknown;
}

/** One approver's yes, whole; a key is as it was enrolled, null with a click and at the terminal. */
export interface Word {
  at_ms: number;
  document: string;
  proof: { kind: string; [more: string]: unknown };
  approver: Approver | null;
}

export interface LogEntry {
  commit: string;
  at_ms: number;
  subject: string;
  tags: string[];
}

/** A line of a hunk; a number is null where the line is not there. */
export interface DiffLine {
  kind: " " | "+" | "-";
  before: number | null;
  after: number | null;
  text: string;
}

export interface FileDiff {
  path: string;
  before_bytes: number | null;
  after_bytes: number | null;
  lines: DiffLine[];
  /** More than is shown. */
  cut: boolean;
}

/** What a repository holds: an agent's applied one, or the meta one. */
export interface Repository {
  /** The commit of what is deployed; null where nothing was. */
  main: string | null;
  refs: Ref[];
  log: LogEntry[];
}

/** What the meta repository says is deployed. */
export interface Live {
  agent: string;
  generation: number;
  commit: string;
  tree: string;
  at_ms: number;
}

export interface MetaRepository extends Repository {
  live: Live[];
}

export interface ConfigFile {
  path: string;
  bytes: number;
}

export interface ConfigText {
  path: string;
  bytes: number;
  text: string;
}

export type ApproverKey =
  | { kind: "ssh"; line: string }
  | { kind: "passkey"; credential: string; public_key: string };

/** One key that decides proposals. Byte strings are base64. */
export interface Approver {
  name: string;
  key: ApproverKey;
  fingerprint: string;
  enrolled_ms: number;
  revoked_ms: number | null;
}

/** What a passkey proves, as `Approve` takes it. */
export interface PasskeyProof {
  kind: "passkey";
  credential: string;
  client_data: string;
  authenticator_data: string;
  signature: string;
}
