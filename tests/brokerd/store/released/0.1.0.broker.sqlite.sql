PRAGMA user_version = 1000;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
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
            since_ms INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT '',
            parked TEXT,
            until_ms INTEGER,
            detail TEXT NOT NULL DEFAULT '',
            last_turn_ms INTEGER
        , limited_by TEXT, limit_until_ms INTEGER, lifted TEXT, model TEXT, model_over TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE feed_state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            epoch TEXT NOT NULL,
            head INTEGER NOT NULL,              -- the last feed entry whose cause is in this file
            boot TEXT NOT NULL                  -- the boot of the machine in which it was last opened
        ) STRICT;
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
        , standing TEXT) STRICT;
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
CREATE TABLE retention (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            messages_gone INTEGER NOT NULL      -- messages that were removed because of their age
        ) STRICT;
CREATE TABLE accounts (                 -- of which anything is known
            name TEXT PRIMARY KEY,
            seen BLOB NOT NULL,                 -- Account as JSON, as egressd told it last
            since_ms INTEGER,                   -- of its limit; NULL when it is not limited
            until_ms INTEGER,
            said_by TEXT,
            detail TEXT
        ) STRICT, WITHOUT ROWID;
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
CREATE TABLE decisions_told (           -- ends of proposals and deployments of which somebody was told
            id INTEGER PRIMARY KEY,
            agent TEXT NOT NULL,
            number INTEGER NOT NULL,
            state TEXT NOT NULL,
            made_ms INTEGER NOT NULL,           -- when it was proposed or began
            UNIQUE (agent, number, state, made_ms)
        ) STRICT;
CREATE TABLE "keys" (
            key BLOB NOT NULL,
            sender TEXT NOT NULL,
            digest BLOB NOT NULL,               -- of the whole request
            answer BLOB NOT NULL,               -- the first reply, as JSON
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (key, sender)
        ) STRICT, WITHOUT ROWID;
CREATE TABLE standing_reminders (
            agent TEXT NOT NULL,
            name TEXT NOT NULL,
            reminder INTEGER NOT NULL,
            said BLOB NOT NULL,                 -- StandingReminder as JSON, as it was when it was set
            PRIMARY KEY (agent, name)
        ) STRICT, WITHOUT ROWID;
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (1, 'broker', 'broker_001_messages', '2026-11-21 20:11:14.985341+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (2, 'broker', 'broker_002_turns', '2026-11-21 20:11:15.001933+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (3, 'broker', 'broker_003_feed_state', '2026-11-21 20:11:15.002510+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (4, 'broker', 'broker_004_questions', '2026-11-21 20:11:15.003831+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (5, 'broker', 'broker_007_news', '2026-11-21 20:11:15.022992+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (6, 'broker', 'broker_005_guards', '2026-11-21 20:11:15.023756+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (7, 'broker', 'broker_006_reminders', '2026-11-21 20:11:15.032613+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (8, 'broker', 'broker_008_retention', '2026-11-21 20:11:15.033057+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (9, 'broker', 'broker_009_accounts', '2026-11-21 20:11:15.034451+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (10, 'broker', 'broker_010_limit_hits', '2026-11-21 20:11:15.035160+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (11, 'broker', 'broker_011_turns_alone', '2026-11-21 20:11:15.091274+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (12, 'broker', 'broker_012_decisions', '2026-11-21 20:11:15.107985+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (13, 'broker', 'broker_013_keys_in_order', '2026-11-21 20:11:15.119315+00:00');
INSERT INTO _sqlite_migrations (id, migration_set, name, applied_at) VALUES (14, 'broker', 'broker_014_standing', '2026-11-21 20:11:15.122222+00:00');
INSERT INTO messages (id, thread, in_reply_to, sender, addressed_to, broadcast, body, sent_ms, event, about, hops) VALUES (1, NULL, NULL, 'operator', 'iris', 0, 'done before', 1795291875605, NULL, NULL, 0);
INSERT INTO messages (id, thread, in_reply_to, sender, addressed_to, broadcast, body, sent_ms, event, about, hops) VALUES (2, NULL, NULL, 'operator', 'iris', 0, 'still to do', 1795291875640, NULL, NULL, 0);
INSERT INTO deliveries (id, recipient, state, turn, attempts, changed_ms, bytes) VALUES (128, 'iris', 'done', 1, 1, 1795291875624, 11);
INSERT INTO deliveries (id, recipient, state, turn, attempts, changed_ms, bytes) VALUES (256, 'iris', 'queued', NULL, 0, 1795291875640, 11);
INSERT INTO turns (id, agent, delivery, token, woke_by, message, began_ms, ended_ms, outcome, detail, conversation, until_ms, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microusd, tool_calls, tools, notes_bytes, done, requeued, dead) VALUES (1, 'iris', 128, '945eb0b05db5a3e117cbced22d81fbba', 'operator', 1, 1795291875616, 1795291875624, 'done', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 1, 0, 0);
INSERT INTO agents (name, role, harness_uid, settings, attached, instance, since_ms, status, parked, until_ms, detail, last_turn_ms, limited_by, limit_until_ms, lifted, model, model_over) VALUES ('atlas', 'agent', 1, X'7B226E616D65223A2261746C6173222C22726F6C65223A226167656E74222C2272756E6E6572223A2264656D6F222C226D6F64656C223A226861696B75222C22726F6C655F70726F6D7074223A22222C22616C6C6F7765645F726563697069656E7473223A6E756C6C2C226567726573735F686F737473223A5B5D2C226567726573735F6C696D697473223A7B22636F6E6E656374696F6E735F6D6178223A36342C226F75745F6D69625F7065725F686F75725F6D6178223A313032342C22696E5F6D69625F7065725F686F75725F6D6178223A6E756C6C7D2C226163636F756E74223A2264656661756C74222C2263726564656E7469616C223A2263616765222C22656E7669726F6E6D656E74223A7B7D2C226C696D697473223A7B226D656D6F72795F6D69625F6D6178223A343039362C227461736B735F6D6178223A3531322C226370755F70657263656E745F6D6178223A3230302C2266696C65735F6D6178223A343039362C226469736B5F6D69625F6D6178223A31363338347D2C226170695F626173655F75726C223A6E756C6C2C2269636F6E223A22222C2270726F6E6F756E73223A22222C22616C6C6F7765645F636F6D6D616E6473223A6E756C6C2C226D63705F73657276657273223A7B7D2C2272656D696E64657273223A5B5D7D', 0, NULL, 1795291875592, '', NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO agents (name, role, harness_uid, settings, attached, instance, since_ms, status, parked, until_ms, detail, last_turn_ms, limited_by, limit_until_ms, lifted, model, model_over) VALUES ('iris', 'agent', 1, X'7B226E616D65223A2269726973222C22726F6C65223A226167656E74222C2272756E6E6572223A2264656D6F222C226D6F64656C223A226861696B75222C22726F6C655F70726F6D7074223A22222C22616C6C6F7765645F726563697069656E7473223A6E756C6C2C226567726573735F686F737473223A5B5D2C226567726573735F6C696D697473223A7B22636F6E6E656374696F6E735F6D6178223A36342C226F75745F6D69625F7065725F686F75725F6D6178223A313032342C22696E5F6D69625F7065725F686F75725F6D6178223A6E756C6C7D2C226163636F756E74223A2264656661756C74222C2263726564656E7469616C223A2263616765222C22656E7669726F6E6D656E74223A7B7D2C226C696D697473223A7B226D656D6F72795F6D69625F6D6178223A343039362C227461736B735F6D6178223A3531322C226370755F70657263656E745F6D6178223A3230302C2266696C65735F6D6178223A343039362C226469736B5F6D69625F6D6178223A31363338347D2C226170695F626173655F75726C223A6E756C6C2C2269636F6E223A22222C2270726F6E6F756E73223A22222C22616C6C6F7765645F636F6D6D616E6473223A6E756C6C2C226D63705F73657276657273223A7B7D2C2272656D696E64657273223A5B5D7D', 0, NULL, 1795291875592, '', NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO feed_state (one, epoch, head, boot) VALUES (1, 'fc6928b54bc5dbe2c5b420ef7d46b15b', 9, 'boot');
INSERT INTO questions (id, asker, asked_of, state, asked_ms, deadline_ms, ended_ms, message, form, reply) VALUES (1, 'iris', 'operator', 'open', 1795291875644, NULL, NULL, NULL, X'7B2274657874223A2277686963683F222C226F7074696F6E73223A5B2274686973222C2274686174225D2C226D756C7469223A66616C73657D', NULL);
INSERT INTO reminders (id, agent, set_by, body, schedule, recurs, only_if, state, created_ms, changed_ms, next_ms, last_ms, waiting, attempted, delivered, failed, skipped, standing) VALUES (1, 'iris', 'iris', 'later', X'7B226B696E64223A226576657279222C2265766572795F73223A333630302C2266726F6D5F6D73223A313739353239353437353731347D', 1, NULL, 'active', 1795291875714, 1795291875714, 1795295475714, NULL, NULL, 0, 0, 0, 0, NULL);
INSERT INTO reminder_clock (one, at_ms) VALUES (1, 1795291875714);
INSERT INTO retention (one, messages_gone) VALUES (1, 0);
INSERT INTO keys (key, sender, digest, answer, at_ms) VALUES (X'11111111111111111111111111111111', 'operator', X'74823667FB48C4D200C6CABBE41499DF', X'7B226D657373616765223A312C22746872656164223A312C22726563697069656E7473223A5B2269726973225D2C22736571223A332C2268656C64223A66616C73657D', 1795291875605);
INSERT INTO keys (key, sender, digest, answer, at_ms) VALUES (X'22222222222222222222222222222222', 'operator', X'4FCE5D9CD10165D353A2A233CA723AF9', X'7B226D657373616765223A322C22746872656164223A322C22726563697069656E7473223A5B2269726973225D2C22736571223A372C2268656C64223A66616C73657D', 1795291875640);
INSERT INTO keys (key, sender, digest, answer, at_ms) VALUES (X'33333333333333333333333333333333', 'iris', X'AADC49FD556087C4E01BC7D96362F869', X'31', 1795291875644);
INSERT INTO keys (key, sender, digest, answer, at_ms) VALUES (X'44444444444444444444444444444444', 'iris', X'8D8DF3394029A4B1D0CEE5435789FAAC', X'7B226964223A312C226167656E74223A2269726973222C227365745F6279223A2269726973222C22626F6479223A226C61746572222C227363686564756C65223A7B226B696E64223A226576657279222C2265766572795F73223A333630302C2266726F6D5F6D73223A313739353239353437353731347D2C227374617465223A22616374697665222C22637265617465645F6D73223A313739353239313837353731342C226F6E6C795F6966223A6E756C6C2C226E6578745F6D73223A313739353239353437353731342C226C6173745F6D73223A6E756C6C2C22617474656D70746564223A302C2264656C697665726564223A302C226661696C6564223A302C22736B6970706564223A302C227374616E64696E67223A6E756C6C7D', 1795291875714);
INSERT INTO sqlite_sequence (name, seq) VALUES ('messages', 2);
INSERT INTO sqlite_sequence (name, seq) VALUES ('turns', 1);
INSERT INTO sqlite_sequence (name, seq) VALUES ('questions', 1);
INSERT INTO sqlite_sequence (name, seq) VALUES ('reminders', 1);
