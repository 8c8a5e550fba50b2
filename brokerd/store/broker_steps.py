"""The tables of broker.sqlite, as numbered steps. A released step is never edited; a new one follows it."""

from sqlite_utils import Database, Migrations

broker = Migrations("broker")


@broker()
def broker_001_messages(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread INTEGER,                     -- the message that began it; NULL is this one
            in_reply_to INTEGER,
            sender TEXT NOT NULL,
            addressed_to TEXT NOT NULL,         -- as the sender wrote it
            broadcast INTEGER NOT NULL,
            body TEXT NOT NULL,
            sent_ms INTEGER NOT NULL,
            event TEXT,                         -- SystemEvent, when it tells more than its sender's words
            about INTEGER,                      -- the question or reminder that the event is about
            hops INTEGER NOT NULL               -- messages of agents that led to it
        ) STRICT;
        CREATE INDEX messages_answering ON messages(thread) WHERE thread IS NOT NULL;

        CREATE TABLE deliveries (
            id INTEGER PRIMARY KEY,             -- message * 128 + place among its recipients
            recipient TEXT NOT NULL,
            state TEXT NOT NULL,                -- held queued in_turn done dead (a lease lives in memory)
            turn INTEGER,
            attempts INTEGER NOT NULL DEFAULT 0,
            changed_ms INTEGER NOT NULL,
            bytes INTEGER NOT NULL              -- of the message's body
        ) STRICT;
        CREATE INDEX deliveries_queued ON deliveries(recipient) WHERE state = 'queued';
        CREATE INDEX deliveries_in_turn ON deliveries(turn) WHERE state = 'in_turn';
        CREATE INDEX deliveries_held ON deliveries(recipient) WHERE state = 'held';
        CREATE INDEX deliveries_dead ON deliveries(changed_ms) WHERE state = 'dead';

        CREATE TABLE keys (
            sender TEXT NOT NULL,
            key BLOB NOT NULL,
            digest BLOB NOT NULL,               -- of the whole request
            answer BLOB NOT NULL,               -- the first reply, as JSON
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (sender, key)
        ) STRICT, WITHOUT ROWID;
        """
    )


@broker()
def broker_002_turns(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            agent TEXT NOT NULL,
            delivery INTEGER NOT NULL,          -- the one that drives it
            token TEXT NOT NULL,                -- the lease it began with
            woke_by TEXT NOT NULL,
            message INTEGER NOT NULL,
            began_ms INTEGER NOT NULL,
            ended_ms INTEGER,
            outcome TEXT,
            detail TEXT NOT NULL DEFAULT '',
            conversation TEXT,
            until_ms INTEGER,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            cost_microusd INTEGER,
            tool_calls INTEGER NOT NULL DEFAULT 0,
            tools TEXT,                         -- calls by tool, as JSON
            notes_bytes INTEGER,
            done INTEGER,                       -- what became of its deliveries: the answer to EndTurn
            requeued INTEGER,
            dead INTEGER
        ) STRICT;
        CREATE INDEX turns_of_agent ON turns(agent);
        CREATE UNIQUE INDEX turns_open ON turns(agent) WHERE ended_ms IS NULL;

        CREATE TABLE agents (
            name TEXT PRIMARY KEY,
            role TEXT NOT NULL,
            harness_uid INTEGER NOT NULL,
            settings BLOB NOT NULL,             -- AgentSettings as JSON, as privd last reported them
            attached INTEGER NOT NULL DEFAULT 0,
            instance TEXT,                      -- the harness that attached last
            activity TEXT NOT NULL,
            since_ms INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT '',
            turn INTEGER,
            parked TEXT,
            until_ms INTEGER,
            detail TEXT NOT NULL DEFAULT '',
            last_turn_ms INTEGER
        ) STRICT, WITHOUT ROWID;
        """
    )


@broker()
def broker_003_feed_state(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE feed_state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            epoch TEXT NOT NULL,
            head INTEGER NOT NULL,              -- the last feed entry whose cause is in this file
            boot TEXT NOT NULL                  -- the boot of the machine in which it was last opened
        ) STRICT;
        """
    )


@broker()
def broker_004_questions(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE questions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            asker TEXT NOT NULL,
            asked_of TEXT NOT NULL,
            state TEXT NOT NULL,                -- open answered expired closed
            asked_ms INTEGER NOT NULL,
            deadline_ms INTEGER,
            ended_ms INTEGER,                   -- NULL while it is open
            message INTEGER,                    -- by which an agent was asked
            form BLOB NOT NULL,                 -- what is asked, as JSON
            reply BLOB                          -- what was answered, as JSON
        ) STRICT;
        CREATE INDEX questions_asker ON questions(asker);
        CREATE INDEX questions_asked_of ON questions(asked_of);
        CREATE INDEX questions_open ON questions(id) WHERE ended_ms IS NULL;
        CREATE INDEX questions_open_of ON questions(asker) WHERE ended_ms IS NULL;
        CREATE INDEX questions_open_to ON questions(asked_of) WHERE ended_ms IS NULL;
        CREATE INDEX questions_due ON questions(deadline_ms) WHERE ended_ms IS NULL AND deadline_ms IS NOT NULL;
        """
    )


@broker()
def broker_007_news(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE cages_told (
            agent TEXT PRIMARY KEY,
            crashed_ms INTEGER,                 -- the last of its crashes that somebody was told of
            rebuilt_ms INTEGER
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE news (                     -- for the manager, several agents in one message
            agent TEXT NOT NULL,
            event TEXT NOT NULL,                -- rebuilt rate_limited resumed
            at_ms INTEGER NOT NULL,
            until_ms INTEGER,
            text TEXT NOT NULL,
            told INTEGER NOT NULL,              -- whether it was told and is still so
            PRIMARY KEY (agent, event)
        ) STRICT, WITHOUT ROWID;
        """
    )


@broker()
def broker_005_guards(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE parked (
            thread INTEGER PRIMARY KEY,
            agents TEXT NOT NULL,               -- who wrote and who was written to, with blanks between
            hops INTEGER NOT NULL,
            held INTEGER NOT NULL,              -- deliveries
            first_held INTEGER NOT NULL,        -- nothing is held of older messages
            since_ms INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX parked_holding ON parked(since_ms) WHERE held > 0;

        CREATE TABLE pauses (
            agent TEXT PRIMARY KEY,
            since_ms INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        """
    )


@broker()
def broker_006_reminders(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE reminders (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            agent TEXT NOT NULL,
            set_by TEXT NOT NULL,
            body TEXT NOT NULL,
            schedule BLOB NOT NULL,             -- AnySchedule as JSON
            recurs INTEGER NOT NULL,            -- whether the schedule has more than one time
            only_if TEXT,
            state TEXT NOT NULL,                -- active ended cancelled
            created_ms INTEGER NOT NULL,
            changed_ms INTEGER NOT NULL,        -- when its state did
            next_ms INTEGER,                    -- NULL when it is not active
            last_ms INTEGER,
            waiting INTEGER,                    -- the message of the occurrence that is not settled yet
            attempted INTEGER NOT NULL DEFAULT 0,
            delivered INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            skipped INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX reminders_due ON reminders(next_ms) WHERE state = 'active';
        CREATE INDEX reminders_of ON reminders(agent, next_ms) WHERE state = 'active';
        CREATE INDEX reminders_recurring ON reminders(id) WHERE state = 'active' AND recurs;
        CREATE INDEX reminders_over ON reminders(id, agent) WHERE state <> 'active';
        CREATE INDEX reminders_over_since ON reminders(changed_ms) WHERE state <> 'active';

        CREATE TABLE occurrences (
            reminder INTEGER NOT NULL,
            due_ms INTEGER NOT NULL,
            by_hand INTEGER NOT NULL,           -- fired now, beside its schedule
            agent TEXT NOT NULL,
            message INTEGER,                    -- NULL when none was sent
            state TEXT NOT NULL,                -- waiting delivered failed skipped
            at_ms INTEGER NOT NULL,             -- when it fired
            changed_ms INTEGER NOT NULL,        -- when its state did
            PRIMARY KEY (reminder, due_ms, by_hand)
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX occurrences_message ON occurrences(message) WHERE message IS NOT NULL;
        CREATE INDEX occurrences_at ON occurrences(at_ms, agent, state, message);
        CREATE INDEX occurrences_settled ON occurrences(changed_ms) WHERE state <> 'waiting';

        CREATE TABLE reminder_clock (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            at_ms INTEGER NOT NULL              -- the wall clock by which next times were last worked out
        ) STRICT;
        INSERT INTO reminder_clock (one, at_ms) VALUES (1, 0);
        """
    )


@broker()
def broker_008_retention(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE retention (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            messages_gone INTEGER NOT NULL      -- messages that were removed because of their age
        ) STRICT;
        INSERT INTO retention (one, messages_gone) VALUES (1, 0);
        """
    )


@broker()
def broker_009_accounts(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE accounts (                 -- of which anything is known
            name TEXT PRIMARY KEY,
            seen BLOB NOT NULL,                 -- Account as JSON, as egressd told it last
            since_ms INTEGER,                   -- of its limit; NULL when it is not limited
            until_ms INTEGER,
            said_by TEXT,
            detail TEXT
        ) STRICT, WITHOUT ROWID;

        ALTER TABLE agents ADD COLUMN limited_by TEXT;          -- the account whose limit holds it
        ALTER TABLE agents ADD COLUMN limit_until_ms INTEGER;   -- when that is said to end
        ALTER TABLE agents ADD COLUMN lifted TEXT;              -- the account in spite of whose limit it goes on
        """
    )


@broker()
def broker_010_limit_hits(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE limit_hits (
            agent TEXT NOT NULL,
            resource TEXT NOT NULL,
            times INTEGER NOT NULL,
            untold INTEGER NOT NULL,            -- of these, since the agent and the manager were told
            told_ms INTEGER,
            first_ms INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,             -- the last time
            detail TEXT NOT NULL,
            PRIMARY KEY (agent, resource)
        ) STRICT, WITHOUT ROWID;
        """
    )


@broker()
def broker_011_turns_alone(db: Database) -> None:
    """What a turn changes about its agent is in the journal alone: beginning and ending one writes no agent's row."""
    db.executescript(
        """
        ALTER TABLE agents DROP COLUMN turn;
        ALTER TABLE agents DROP COLUMN activity;
        """
    )


@broker()
def broker_012_decisions(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE decisions_told (           -- ends of proposals and deployments of which somebody was told
            id INTEGER PRIMARY KEY,
            agent TEXT NOT NULL,
            number INTEGER NOT NULL,
            state TEXT NOT NULL,
            made_ms INTEGER NOT NULL,           -- when it was proposed or began
            UNIQUE (agent, number, state, made_ms)
        ) STRICT;
        """
    )


@broker()
def broker_013_keys_in_order(db: Database) -> None:
    """Keys begin with what grows with time: in their own order those of a moment lie together, whoever sent them."""
    db.executescript(
        """
        CREATE TABLE ordered_keys (
            key BLOB NOT NULL,
            sender TEXT NOT NULL,
            digest BLOB NOT NULL,               -- of the whole request
            answer BLOB NOT NULL,               -- the first reply, as JSON
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (key, sender)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO ordered_keys (key, sender, digest, answer, at_ms)
            SELECT key, sender, digest, answer, at_ms FROM keys ORDER BY key, sender;
        DROP TABLE keys;
        ALTER TABLE ordered_keys RENAME TO keys;
        """
    )


@broker()
def broker_014_standing(db: Database) -> None:
    """Reminders that configurations set, and models that the operator chose for a while."""
    db.executescript(
        """
        ALTER TABLE reminders ADD COLUMN standing TEXT;         -- its name in its agent's configuration
        CREATE TABLE standing_reminders (
            agent TEXT NOT NULL,
            name TEXT NOT NULL,
            reminder INTEGER NOT NULL,
            said BLOB NOT NULL,                 -- StandingReminder as JSON, as it was when it was set
            PRIMARY KEY (agent, name)
        ) STRICT, WITHOUT ROWID;

        ALTER TABLE agents ADD COLUMN model TEXT;               -- the operator's choice
        ALTER TABLE agents ADD COLUMN model_over TEXT;          -- what the settings said then: it ends with that
        """
    )
