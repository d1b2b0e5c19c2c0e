-- Version 1. A version that was released is never changed: the next one is a file of its own.
-- All names are in the schema that the connection's search path names.

CREATE TABLE runs (
    run BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    pipeline TEXT COLLATE "C" NOT NULL,
    created BIGINT NOT NULL,           -- ms since 1970, as all times here
    forked_from TEXT,
    status TEXT COLLATE "C" NOT NULL,
    updated BIGINT NOT NULL,
    due BIGINT,
    steps BIGINT NOT NULL DEFAULT 0,
    cost BIGINT NOT NULL DEFAULT 0,    -- nano-dollars
    tokens BIGINT NOT NULL DEFAULT 0,
    requests BIGINT NOT NULL DEFAULT 0,
    unpriced BOOLEAN NOT NULL DEFAULT false,
    message TEXT,
    worker BIGINT,                     -- who owns it
    token BIGINT NOT NULL DEFAULT 1,   -- the fencing token: raised with each claim
    through BIGINT NOT NULL DEFAULT 0, -- the number of the last record that is in its snapshot
    last BIGINT NOT NULL DEFAULT 0,    -- the number of its last record
    bytes BIGINT NOT NULL DEFAULT 0    -- of its bodies
) WITH (fillfactor = 70);              -- with each step a row is written again beside itself

CREATE INDEX runs_status ON runs (status, created DESC, id);
CREATE INDEX runs_pipeline ON runs (pipeline, status, created DESC, id);
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_worker ON runs (worker) WHERE worker IS NOT NULL;

CREATE TABLE contents (
    run BIGINT PRIMARY KEY,
    definition BYTEA NOT NULL,
    definition_sum BIGINT NOT NULL,
    snapshot BYTEA NOT NULL,
    snapshot_sum BIGINT NOT NULL
);

CREATE TABLE records (
    run BIGINT NOT NULL,
    number BIGINT NOT NULL,
    body BYTEA NOT NULL,
    sum BIGINT NOT NULL,
    PRIMARY KEY (run, number)
);

CREATE TABLE blobs (
    run BIGINT NOT NULL,
    id BYTEA NOT NULL,
    body BYTEA NOT NULL,
    sum BIGINT NOT NULL,
    PRIMARY KEY (run, id)
);

CREATE TABLE messages (
    message BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run BIGINT NOT NULL,
    body BYTEA NOT NULL,
    sum BIGINT NOT NULL
);
CREATE INDEX messages_run ON messages (run);

CREATE TABLE workers (
    worker BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid BIGINT NOT NULL,
    began BIGINT NOT NULL,
    beats BIGINT NOT NULL DEFAULT 0
);

-- How far each writing thread has come: the number of its last transaction, so that it can ask whether it was done.
CREATE TABLE lanes (
    lane BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number BIGINT NOT NULL DEFAULT 0,
    used TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Each of these does all of what it is asked for, or says in its answer why it did nothing: so that many of them can
-- share a transaction without one of them ending it.

CREATE FUNCTION create_run(
    p_id TEXT, p_pipeline TEXT, p_created BIGINT, p_forked TEXT, p_status TEXT, p_worker BIGINT,
    p_definition BYTEA, p_definition_sum BIGINT, p_snapshot BYTEA, p_snapshot_sum BIGINT,
    p_blob_ids BYTEA[], p_blobs BYTEA[], p_blob_sums BIGINT[]
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    r BIGINT;
    b BIGINT;
BEGIN
    IF EXISTS (SELECT FROM runs WHERE id = p_id) THEN
        RETURN 'exists';
    END IF;
    IF p_worker IS NOT NULL THEN
        -- It is not dismissed before this has been written.
        PERFORM FROM workers WHERE worker = p_worker FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN 'unknown worker';
        END IF;
    END IF;
    INSERT INTO runs (id, pipeline, created, forked_from, status, updated, worker)
        VALUES (p_id, p_pipeline, p_created, p_forked, p_status, p_created, p_worker)
        ON CONFLICT (id) DO NOTHING RETURNING run INTO r;
    IF r IS NULL THEN
        RETURN 'exists';
    END IF;
    INSERT INTO contents VALUES (r, p_definition, p_definition_sum, p_snapshot, p_snapshot_sum);
    b := add_blobs(r, p_blob_ids, p_blobs, p_blob_sums) + octet_length(p_definition) + octet_length(p_snapshot);
    UPDATE runs SET bytes = b WHERE run = r;
    RETURN 'done';
END $$;

-- Tells how many bytes came.
CREATE FUNCTION add_blobs(p_run BIGINT, p_ids BYTEA[], p_blobs BYTEA[], p_sums BIGINT[])
RETURNS BIGINT LANGUAGE sql AS $$
    WITH came AS (
        INSERT INTO blobs SELECT p_run, id, body, sum FROM unnest(p_ids, p_blobs, p_sums) AS t (id, body, sum)
            ON CONFLICT DO NOTHING RETURNING octet_length(body) AS size
    )
    SELECT coalesce(sum(size), 0)::BIGINT FROM came
$$;

CREATE FUNCTION claim_run(p_id TEXT, p_worker BIGINT, p_seen BIGINT, p_beats BIGINT)
RETURNS TABLE (code TEXT, told_token BIGINT, host TEXT, pid BIGINT) LANGUAGE plpgsql AS $$
DECLARE
    r runs;
    w workers;
    fits BOOLEAN;
BEGIN
    PERFORM FROM workers WHERE workers.worker = p_worker FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown worker', NULL::BIGINT, NULL, NULL::BIGINT;
        RETURN;
    END IF;
    SELECT * INTO r FROM runs WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown run', NULL::BIGINT, NULL, NULL::BIGINT;
        RETURN;
    END IF;
    -- Its counter stays where it is until this has been written.
    SELECT * INTO w FROM workers WHERE workers.worker = r.worker FOR SHARE;
    IF p_seen IS NULL THEN
        fits := w.worker IS NULL;
    ELSE
        fits := w.worker = p_seen AND (p_seen = p_worker OR w.beats = p_beats);
    END IF;
    IF fits IS NOT TRUE THEN
        RETURN QUERY SELECT 'owned', NULL::BIGINT, w.host, w.pid;
        RETURN;
    END IF;
    UPDATE runs SET worker = p_worker, token = token + 1 WHERE run = r.run;
    RETURN QUERY SELECT 'done', r.token + 1, NULL, NULL::BIGINT;
END $$;

-- `p_before`: the number of the last record before those that are appended. `p_low`: the number of the first snapshot.
-- Of the records only those behind the last snapshot are given.
CREATE FUNCTION write_run(
    p_id TEXT, p_worker BIGINT, p_token BIGINT,
    p_before BIGINT, p_last BIGINT, p_numbers BIGINT[], p_bodies BYTEA[], p_sums BIGINT[],
    p_low BIGINT, p_through BIGINT, p_snapshot BYTEA, p_snapshot_sum BIGINT,
    p_blob_ids BYTEA[], p_blobs BYTEA[], p_blob_sums BIGINT[],
    p_status TEXT, p_updated BIGINT, p_due BIGINT, p_steps BIGINT, p_cost BIGINT, p_tokens BIGINT,
    p_requests BIGINT, p_unpriced BOOLEAN, p_message TEXT,
    p_taken BIGINT[], p_release BOOLEAN, p_delete BOOLEAN
) RETURNS TABLE (code TEXT, told_through BIGINT, told_last BIGINT) LANGUAGE plpgsql AS $$
DECLARE
    r runs;
    grown BIGINT := 0;
    size BIGINT;
BEGIN
    SELECT * INTO r FROM runs WHERE id = p_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown run', 0::BIGINT, 0::BIGINT;
        RETURN;
    END IF;
    IF r.worker IS DISTINCT FROM p_worker OR r.token <> p_token THEN
        RETURN QUERY SELECT 'fenced', 0::BIGINT, 0::BIGINT;
        RETURN;
    END IF;
    IF p_before <> r.last OR p_low < r.through OR (p_before IS NULL AND p_through > r.last) THEN
        RETURN QUERY SELECT 'out of order', r.through, r.last;
        RETURN;
    END IF;
    IF p_delete THEN
        PERFORM forget_runs(ARRAY[r.run]);
        RETURN QUERY SELECT 'done', 0::BIGINT, 0::BIGINT;
        RETURN;
    END IF;
    IF p_snapshot IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM records WHERE run = r.run AND number <= p_through RETURNING octet_length(body) AS size
        )
        SELECT coalesce(sum(gone.size), 0) INTO size FROM gone;
        grown := grown - size - (SELECT octet_length(snapshot) FROM contents WHERE run = r.run);
        UPDATE contents SET snapshot = p_snapshot, snapshot_sum = p_snapshot_sum WHERE run = r.run;
        grown := grown + octet_length(p_snapshot);
    END IF;
    IF cardinality(p_numbers) > 0 THEN
        INSERT INTO records SELECT r.run, n, b, s FROM unnest(p_numbers, p_bodies, p_sums) AS t (n, b, s);
        grown := grown + (SELECT sum(octet_length(b)) FROM unnest(p_bodies) AS b);
    END IF;
    IF cardinality(p_blob_ids) > 0 THEN
        grown := grown + add_blobs(r.run, p_blob_ids, p_blobs, p_blob_sums);
    END IF;
    IF cardinality(p_taken) > 0 THEN
        DELETE FROM messages WHERE message = ANY (p_taken) AND run = r.run;
    END IF;
    IF p_status IS NULL THEN
        UPDATE runs SET last = coalesce(p_last, last), through = coalesce(p_through, through),
            bytes = bytes + grown, worker = CASE WHEN p_release THEN NULL ELSE worker END
            WHERE run = r.run;
    ELSE
        UPDATE runs SET last = coalesce(p_last, last), through = coalesce(p_through, through),
            bytes = bytes + grown, worker = CASE WHEN p_release THEN NULL ELSE worker END,
            status = p_status, updated = p_updated, due = p_due, steps = p_steps, cost = p_cost,
            tokens = p_tokens, requests = p_requests, unpriced = p_unpriced, message = p_message
            WHERE run = r.run;
    END IF;
    RETURN QUERY SELECT 'done', 0::BIGINT, 0::BIGINT;
END $$;

CREATE FUNCTION forget_runs(p_runs BIGINT[]) RETURNS VOID LANGUAGE sql AS $$
    DELETE FROM records WHERE run = ANY (p_runs);
    DELETE FROM contents WHERE run = ANY (p_runs);
    DELETE FROM blobs WHERE run = ANY (p_runs);
    DELETE FROM messages WHERE run = ANY (p_runs);
    DELETE FROM runs WHERE run = ANY (p_runs);
$$;

CREATE FUNCTION purge_runs(p_statuses TEXT[], p_run TEXT, p_pipeline TEXT, p_before BIGINT, p_keep BIGINT,
    p_most BIGINT)
RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    going BIGINT[];
BEGIN
    going := ARRAY(
        SELECT run FROM runs WHERE run IN (
            SELECT run FROM runs
            WHERE status = ANY (p_statuses) AND (p_run IS NULL OR id = p_run)
                AND (p_pipeline IS NULL OR pipeline = p_pipeline) AND (p_before IS NULL OR updated < p_before)
            ORDER BY created DESC, id LIMIT p_most OFFSET p_keep
        ) AND worker IS NULL ORDER BY run FOR UPDATE
    );
    PERFORM forget_runs(going);
    RETURN cardinality(going);
END $$;

CREATE FUNCTION post_message(p_id TEXT, p_body BYTEA, p_sum BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    r BIGINT;
    m BIGINT;
BEGIN
    SELECT run INTO r FROM runs WHERE id = p_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO messages (run, body, sum) VALUES (r, p_body, p_sum) RETURNING message INTO m;
    RETURN m;
END $$;

CREATE FUNCTION dismiss_worker(p_worker BIGINT, p_seen BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM workers WHERE worker = p_worker AND (p_seen IS NULL OR beats = p_seen);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE runs SET worker = NULL WHERE worker = p_worker;
    RETURN true;
END $$;
