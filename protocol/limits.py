"""Every bound that crosses a process, with its unit in its name. A bound inside one process lives beside its use."""

from typing import Final

# Frames (protocol.frames). A request to privd is small by design; a request to brokerd may carry a body of
# BODY_BYTES_MAX whose every byte JSON writes as a six-byte escape, and a little envelope around it.
FRAME_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 64 * 1024
BROKER_FRAME_BYTES_MAX: Final = 6 * BODY_BYTES_MAX + 8 * 1024
REPLY_BYTES_MAX: Final = 2 * 1024 * 1024

INTEGER_MAX: Final = 2**53 - 1
"""What every reader of JSON keeps exact; sqlite stores it, and no file is as long."""

# Sessions: how long each stage may take before the other side is given up.
FIRST_FRAME_S: Final = 5.0
FRAME_BODY_S: Final = 5.0
REPLY_TAKEN_S: Final = 5.0
CONNECTIONS_PER_SOCKET_MAX: Final = 512
CONNECTIONS_PER_UID_MAX: Final = 64
AGENT_CONNECTIONS_MAX: Final = 32
"""Connections that one cage may hold open at its broker socket."""
EGRESS_CONNECTIONS_MAX: Final = 64
"""Connections that one cage may hold open at its egress socket."""

# Messages and turns.
TAKE_WAIT_S_MAX: Final = 180
RECV_MESSAGES_MAX: Final = 10
ATTEMPTS_MAX: Final = 5
LEASE_MS: Final = 10 * 60 * 1000
STATUS_CHARS_MAX: Final = 200
DETAIL_CHARS_MAX: Final = 2_000
TURN_EVENTS_BATCH_MAX: Final = 64
TURN_DELIVERIES_TOLD_MAX: Final = 32
"""Deliveries that the end of a turn tells of in one entry of the feed."""
TURN_TEXT_CHARS_MAX: Final = 8_000
"""Characters of one text field of a turn event; the harness cuts and says so."""
TURN_LABEL_CHARS_MAX: Final = 300
"""Characters of a one-line field of a turn event: a tool's name, a summary, a call id."""

TURN_TOOLS_MAX: Final = 200
"""Different tools that are counted in one turn; the harness adds the rest together as `other`."""
TOOL_NAME_CHARS_MAX: Final = 100

# Questions.
QUESTION_CHARS_MAX: Final = 8_000
OPTIONS_MAX: Final = 20
OPTION_CHARS_MAX: Final = 200
QUESTIONS_OPEN_MAX: Final = 50
"""Questions of one agent that wait for an answer."""
QUESTION_TTL_S_MIN: Final = 30
QUESTION_TTL_S_MAX: Final = 30 * 24 * 3600

# Reminders.
REMINDER_CHARS_MAX: Final = 8_000
REMINDERS_OPEN_MAX: Final = 200
"""Reminders of one agent that are still to fire."""
REMINDER_EVERY_S_MIN: Final = 60
REMINDER_AHEAD_S_MAX: Final = 5 * 366 * 24 * 3600
CRON_CHARS_MAX: Final = 100
ZONE_CHARS_MAX: Final = 60
ONLY_IF_CHARS_MAX: Final = 2_000
ONLY_IF_S_MAX: Final = 60
"""How long a reminder's `only_if` may run before it counts as no."""

# Statistics and search.
STATISTICS_BUCKETS_MAX: Final = 200
SEARCH_CHARS_MAX: Final = 200

# Pages.
PAGE_ROWS_MAX: Final = 200
PAGE_BYTES_MAX: Final = 512 * 1024
FEED_BACKLOG_ROWS_MAX: Final = 20_000
"""A watcher further behind than this is told to take a new snapshot instead."""
WATCH_QUEUE_FRAMES_MAX: Final = 4_096
"""Frames that wait for one slow watcher before its watch is ended with `limit`."""
WATCH_QUEUE_BYTES_MAX: Final = 16 * 1024 * 1024
"""The same, in bytes: frames of the feed may be large."""

# Cages.
AGENTS_MAX: Final = 120
"""Agents of one hive: the uid ranges of its block (privd.cages.identity)."""
JOURNAL_BYTES_MAX: Final = 128 * 1024
"""Bytes of journal in one reply."""
STOP_GRACE_S: Final = 30
"""How long a graceful stop lets the running turn end."""
STATE_CHUNK_BYTES_MAX: Final = 256 * 1024
"""Bytes of one agent's file in one reply."""
STATE_ENTRIES_MAX: Final = 500
"""Entries of one folder in one reply."""
STATE_COUNT_MAX: Final = 200_000
"""Files that are counted when an agent's state is measured; more are not looked at."""
ACCOUNT_WINDOWS_MAX: Final = 16
"""Limits of one model account that are shown."""
EGRESS_HOSTS_MAX: Final = 100
RECIPIENTS_MAX: Final = 200
ENVIRONMENT_MAX: Final = 50
ROLE_PROMPT_CHARS_MAX: Final = 12_000
COMMANDS_MAX: Final = 100
"""Patterns of commands that an agent may run, when not all of them."""
COMMAND_CHARS_MAX: Final = 300
MCP_SERVERS_MAX: Final = 16
MCP_WORDS_MAX: Final = 32
"""Words of the command line of one MCP server."""
STANDING_REMINDERS_MAX: Final = 50
"""Reminders that stand in an agent's configuration."""
ICON_CHARS_MAX: Final = 8
PRONOUNS_CHARS_MAX: Final = 40

# Proposals and deployments.
DESCRIPTION_CHARS_MAX: Final = 4_000
REASON_CHARS_MAX: Final = 2_000
PROOF_BYTES_MAX: Final = 8 * 1024
PROPOSALS_OPEN_MAX: Final = 50
"""Proposals of a whole hive that wait for a verdict."""
PROPOSALS_PER_HOUR_MAX: Final = 40
"""Proposals for one agent within an hour."""
PROPOSAL_DAYS: Final = 7
"""After which an open proposal expires, unless privd's settings say otherwise."""
APPROVAL_DOCUMENT_S: Final = 600
"""For how long a document that was shown may be signed."""
DIFF_FILES_MAX: Final = 400
"""Of one diff: as many as two configurations can hold that have no file in common."""
DIFF_LINES_MAX: Final = 4_000
"""Lines of all files of one diff; each file that has more says `cut`."""
BUILD_LOG_BYTES_MAX: Final = 4 * 1024 * 1024
HEALTH_GATE_S: Final = 60
"""How long the harness of a new generation may take to say that it is well."""
