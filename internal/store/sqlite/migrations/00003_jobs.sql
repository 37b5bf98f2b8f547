-- What is to be done later. A job's name is its kind and its subject; a row
-- that is done is removed. Who claims a job moves due_at to the end of the lease,
-- so that the job of a worker that died is due again by itself.

-- +goose Up
CREATE TABLE jobs (
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    claim      INTEGER NOT NULL,            -- goes up with each claim, and from one row of a name to the next
    tries      INTEGER NOT NULL DEFAULT 0,
    running    INTEGER NOT NULL DEFAULT 0,  -- 1: claimed
    dead_at    INTEGER,                     -- given up
    reason     TEXT NOT NULL DEFAULT '',    -- why the last try failed
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_due ON jobs (kind, due_at) WHERE dead_at IS NULL;

-- +goose Down
DROP TABLE jobs;
