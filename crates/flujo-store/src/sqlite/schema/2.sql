-- Version 2: records stand one behind the other as they are written, whosever they are, and each knows the one before it
-- of its run. Of a hundred runs that each write one, a commit fills three pages, where it changed a hundred before.

ALTER TABLE runs ADD COLUMN tail INTEGER;   -- the key of its last record, if there are any

UPDATE runs SET tail = run * 4294967296 + last WHERE last > through;

CREATE TABLE log (
    record INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    previous INTEGER,                       -- the key of the one before it; of the first behind a snapshot nobody asks
    body BLOB NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

INSERT INTO log SELECT record, record >> 32, record - 1, body, sum FROM records;

DROP TABLE records;

ALTER TABLE log RENAME TO records;
