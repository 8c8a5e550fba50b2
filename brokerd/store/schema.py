"""The tables of brokerd's two databases, as numbered steps. A released step is never edited; a new one follows it.

broker.sqlite is on disk before anybody is told; events.sqlite may lose its last moments in a power cut. What
settles together lives in broker.sqlite, because a commit over two files is whole only within each.

A commit over both writes them one after the other, and a process can be killed in between. So events.sqlite is the
connection's `main`, which goes first: what it may hold too much was never shown to anybody, and is taken back at the
next start (brokerd.store.feed). The other way round a message could lack its feed entry for ever.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlite_utils import Database, Migrations

from runtime.store import StoreShape

BROKER: Final = "broker"

broker = Migrations("broker")
events = Migrations("events")


def shape_of(database: Path, events_database: Path) -> StoreShape:
    return StoreShape(events_database, attached={BROKER: database}, relaxed=frozenset({"main"}))


def migrate(path: Path, shape: StoreShape) -> None:
    """Bring both files up to date, each step with its record in one transaction."""
    for file, steps in ((path, events), (shape.attached[BROKER], broker)):
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            steps.apply(Database(connection, execute_plugins=False))


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


@events()
def events_001_feed(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE feed (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            at_ms INTEGER NOT NULL,
            agent TEXT NOT NULL,
            durable INTEGER NOT NULL,           -- whether its cause is in broker.sqlite
            body BLOB NOT NULL                  -- AnyFeedBody as JSON
        ) STRICT;

        CREATE TABLE turn_events (
            turn INTEGER NOT NULL,
            n INTEGER NOT NULL,
            body BLOB NOT NULL,                 -- AnyTurnEvent as JSON
            PRIMARY KEY (turn, n)
        ) STRICT, WITHOUT ROWID;
        """
    )
