-- Version 1. A version that was released is never changed: the next one is a file of its own.

CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    created INTEGER NOT NULL,      -- ms since 1970, as all times here
    forked_from TEXT,
    status TEXT NOT NULL,
    updated INTEGER NOT NULL,
    due INTEGER,
    steps INTEGER NOT NULL,
    cost INTEGER NOT NULL,         -- nano-dollars
    tokens INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    message TEXT,
    worker INTEGER,                -- who owns it
    token INTEGER NOT NULL,        -- the fencing token: raised with each claim
    through INTEGER NOT NULL,      -- the number of the last record that is in its snapshot
    last INTEGER NOT NULL,         -- the number of its last record
    bytes INTEGER NOT NULL         -- of its bodies
) STRICT;

-- A list is read from these in order, without looking at what it doesn't show.
CREATE INDEX runs_status ON runs (status, created DESC, id);
CREATE INDEX runs_pipeline ON runs (pipeline, status, created DESC, id);
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_worker ON runs (worker) WHERE worker IS NOT NULL;

CREATE TABLE definitions (
    run INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshots (
    run INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

-- A record's key is its run times 2^32, and its number: the log of a run is together, without an index.
CREATE TABLE records (
    record INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE blobs (
    blob INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    id BLOB NOT NULL,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL,
    UNIQUE (run, id)
) STRICT;

-- No number is given twice, so that one who comes late means nobody else.
CREATE TABLE messages (
    message INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_run ON messages (run);

CREATE TABLE workers (
    worker INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began INTEGER NOT NULL,
    beats INTEGER NOT NULL
) STRICT;
