-- Credentials for AI providers, what they may spend and did, and the audit trail.
-- Money is in millionths of a dollar.

-- +goose Up
CREATE TABLE grants (
    id          TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    created_at  INTEGER NOT NULL,
    ttl         INTEGER NOT NULL,            -- of its credentials, in microseconds
    cap         INTEGER NOT NULL,            -- what they together may spend; 0: no bound
    spent       INTEGER NOT NULL,
    github_job  TEXT NOT NULL,
    github_run  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX grants_customer ON grants (customer_id);

CREATE TABLE credentials (
    id          TEXT PRIMARY KEY,
    grant_id    TEXT NOT NULL REFERENCES grants (id),
    customer_id TEXT NOT NULL,
    key_id      TEXT NOT NULL,               -- the API key that asked for it
    provider    TEXT NOT NULL,
    public_id   TEXT NOT NULL UNIQUE,        -- the id inside the token
    hash        BLOB NOT NULL,               -- SHA-256 of the token
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX credentials_customer ON credentials (customer_id, id);
CREATE INDEX credentials_revoked ON credentials (revoked_at) WHERE revoked_at IS NOT NULL;

-- Money set aside for calls under way. What lapses was a dead node's.
CREATE TABLE holds (
    id          TEXT PRIMARY KEY,
    grant_id    TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    node        TEXT NOT NULL,
    micro       INTEGER NOT NULL,
    lapses_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX holds_customer ON holds (customer_id);

-- What a customer spent in a day.
CREATE TABLE spending (
    customer_id TEXT NOT NULL,
    day         INTEGER NOT NULL,            -- since the epoch, UTC
    micro       INTEGER NOT NULL,
    PRIMARY KEY (customer_id, day)
) STRICT, WITHOUT ROWID;

-- Rows are added, and never changed or removed.
CREATE TABLE audit (
    id            TEXT PRIMARY KEY,
    at            INTEGER NOT NULL,
    customer_id   TEXT NOT NULL,
    key_id        TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    grant_id      TEXT NOT NULL,
    action        TEXT NOT NULL,
    provider      TEXT NOT NULL,
    model         TEXT NOT NULL,
    requests      INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost          INTEGER NOT NULL,
    estimated     INTEGER NOT NULL,
    outcome       TEXT NOT NULL,
    job           TEXT NOT NULL              -- of a client's report: counts once
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_customer ON audit (customer_id, at);
CREATE UNIQUE INDEX audit_report ON audit (customer_id, job) WHERE action = 'report';

ALTER TABLE customers ADD COLUMN day_budget INTEGER; -- what it may spend in a day

-- +goose StatementBegin
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_never_vanishes BEFORE DELETE ON audit
WHEN NOT EXISTS (SELECT 1 FROM purges WHERE customer_id = OLD.customer_id)
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never removed');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit;
ALTER TABLE customers DROP COLUMN day_budget;
DROP TABLE spending;
DROP TABLE holds;
DROP TABLE credentials;
DROP TABLE grants;
