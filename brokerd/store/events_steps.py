"""The tables of events.sqlite, as numbered steps. A released step is never edited; a new one follows it."""

from sqlite_utils import Database, Migrations

events = Migrations("events")


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


@events()
def events_002_behind(db: Database) -> None:
    """What is made of messages behind the sends (brokerd.store.behind); `words` keeps no text, only where words are."""
    db.executescript(
        """
        CREATE VIRTUAL TABLE words USING fts5(
            body, parties, content = '', prefix = '2 3', tokenize = 'unicode61 remove_diacritics 2'
        );
        CREATE VIRTUAL TABLE word_list USING fts5vocab(words, instance);

        CREATE TABLE history (
            agent TEXT NOT NULL,                -- who wrote or got it
            message INTEGER NOT NULL,
            PRIMARY KEY (agent, message)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE traffic (
            step_ms INTEGER NOT NULL,           -- how long a step is: each is counted in several lengths
            agent TEXT NOT NULL,
            at_ms INTEGER NOT NULL,             -- when it begins
            inbox_max INTEGER NOT NULL DEFAULT 0,
            sent_peer INTEGER NOT NULL DEFAULT 0,
            sent_operator INTEGER NOT NULL DEFAULT 0,
            sent_manager INTEGER NOT NULL DEFAULT 0,
            sent_system INTEGER NOT NULL DEFAULT 0,
            received_peer INTEGER NOT NULL DEFAULT 0,
            received_operator INTEGER NOT NULL DEFAULT 0,
            received_manager INTEGER NOT NULL DEFAULT 0,
            received_system INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (step_ms, agent, at_ms)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE behind (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            head INTEGER NOT NULL               -- messages up to this number are in words, history and traffic
        ) STRICT;
        INSERT INTO behind (one, head) VALUES (1, 0);
        """
    )


@events()
def events_003_egress(db: Database) -> None:
    db.executescript(
        """
        CREATE TABLE egress_refusals (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            agent TEXT NOT NULL,
            why TEXT NOT NULL,
            host TEXT NOT NULL,
            port INTEGER NOT NULL,
            times INTEGER NOT NULL,
            first_ms INTEGER NOT NULL,
            at_ms INTEGER NOT NULL              -- the last time
        ) STRICT;
        CREATE INDEX egress_refusals_of ON egress_refusals(agent, id);
        CREATE INDEX egress_refusals_at ON egress_refusals(at_ms);
        """
    )
