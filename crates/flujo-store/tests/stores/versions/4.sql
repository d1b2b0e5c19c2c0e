-- A file that version 4 has written.
PRAGMA application_id = 1718383986;
PRAGMA user_version = 4;
CREATE TABLE blobs (
    blob INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    id BLOB NOT NULL,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL,
    UNIQUE (run, id)
) STRICT;
INSERT INTO "blobs" VALUES(1,1,X'D89D7CF75E5E4D4D16501D178657CB59487B28EBA285816EF5E41EB458740AFC',X'626C6F62203020626C6F62203020626C6F62203020626C6F62203020626C6F62203020626C6F62203020626C6F6220302062',5680422940547251162);
CREATE TABLE definitions (
    run INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
INSERT INTO "definitions" VALUES(1,X'646566696E6974696F6E',2667892226684849322);
CREATE TABLE messages (
    message INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
INSERT INTO "messages" VALUES(1,1,X'6D6573736167652030206D657373616765203020',-4478189917383100519);
CREATE TABLE "records" (
    record INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    previous INTEGER,                       -- the key of the one before it; of the first behind a snapshot nobody asks
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
INSERT INTO "records" VALUES(1,1,NULL,X'6120312061203120612031206120312061203120',-4109974525486682962);
INSERT INTO "records" VALUES(2,1,1,X'6120322061203220612032206120322061203220',-5557199395811684864);
INSERT INTO "records" VALUES(3,1,2,X'6120332061203320612033206120332061203320',-2550556990608908279);
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
, tells INTEGER) STRICT;
INSERT INTO "runs" VALUES(1,'a','tests',1,NULL,'running',1,NULL,0,0,0,0,0,NULL,1,1,0,1,85,1);
CREATE TABLE snapshots (
    run INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
INSERT INTO "snapshots" VALUES(1,X'626567696E',4269995490901665246);
CREATE TABLE workers (
    worker INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began INTEGER NOT NULL,
    beats INTEGER NOT NULL
) STRICT;
INSERT INTO "workers" VALUES(1,'elsewhere','boot',1,1,0);
CREATE INDEX runs_status ON runs (status, created DESC, id);
CREATE INDEX runs_pipeline ON runs (pipeline, status, created DESC, id);
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_worker ON runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX messages_run ON messages (run);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('workers',1);
INSERT INTO "sqlite_sequence" VALUES('messages',1);
