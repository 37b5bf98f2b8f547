-- Customers, their API keys, their ledger, and the rate limiter's windows.
-- Times are microseconds since the Unix epoch, UTC. Ids are UUIDv7, so that
-- rows of tables without rowid are appended in the order they are made.

-- +goose Up
CREATE TABLE customers (
    id                 TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    email              TEXT NOT NULL,        -- as given
    email_canonical    TEXT NOT NULL UNIQUE, -- one mailbox, one customer
    company            TEXT NOT NULL,        -- '': none
    source             TEXT NOT NULL,
    subscription_plan  TEXT NOT NULL,
    subscription_state TEXT NOT NULL,        -- '': never subscribed
    trial_fixes_limit  INTEGER NOT NULL,
    trial_fixes_used   INTEGER NOT NULL,
    credit_balance     INTEGER NOT NULL CHECK (credit_balance >= 0),
    credit_debt        INTEGER NOT NULL CHECK (credit_debt >= 0),
    stripe_customer_id TEXT UNIQUE,
    created_at         INTEGER NOT NULL,
    suspended_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    customer_id  TEXT NOT NULL REFERENCES customers (id),
    id           TEXT NOT NULL,
    public_id    TEXT NOT NULL UNIQUE,       -- the id inside the key
    hash         BLOB NOT NULL,              -- SHA-256 of the key
    prefix       TEXT NOT NULL,
    name         TEXT NOT NULL,              -- '': none
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at   INTEGER,
    retires_at   INTEGER,                    -- end of the grace, once replaced
    revoked_at   INTEGER,
    PRIMARY KEY (customer_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_unrevoked ON api_keys (customer_id) WHERE revoked_at IS NULL;

CREATE TABLE ledger_entries (
    customer_id   TEXT NOT NULL REFERENCES customers (id),
    number        INTEGER NOT NULL,          -- 1, 2, 3 … for each customer
    id            TEXT NOT NULL,
    amount        INTEGER NOT NULL,
    balance_after INTEGER NOT NULL CHECK (balance_after >= 0),
    source        TEXT NOT NULL,
    reference     TEXT NOT NULL UNIQUE,      -- the business fact
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (customer_id, number)
) STRICT, WITHOUT ROWID;

-- The times of the requests a key was admitted at, oldest first, 8 bytes each
-- in big-endian order. One value a key: 500 stamps are read and written as
-- fast as a few rows would be, and take a third of the space.
CREATE TABLE rate_windows (
    policy TEXT NOT NULL,
    key    TEXT NOT NULL,
    stamps BLOB NOT NULL,
    PRIMARY KEY (policy, key)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER ledger_entries_never_change BEFORE UPDATE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'ledger entries are never changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER ledger_entries_never_vanish BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'ledger entries are never removed');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE rate_windows;
DROP TABLE ledger_entries;
DROP TABLE api_keys;
DROP TABLE customers;
