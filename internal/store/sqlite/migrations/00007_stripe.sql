-- Stripe's events, what is known by them, and fixes. Times are microseconds
-- since the Unix epoch; 0 where an event did not say one.

-- +goose Up
CREATE TABLE stripe_events (
    id          TEXT NOT NULL UNIQUE,        -- Stripe's, or made of the hash of what can't be read
    type        TEXT NOT NULL,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',    -- what was decided, and why
    waits_for   TEXT NOT NULL DEFAULT '',    -- of a parked one
    customer_id TEXT NOT NULL DEFAULT '',    -- whose it is, so that it goes with the customer
    received_at INTEGER NOT NULL,
    decided_at  INTEGER,
    history     TEXT NOT NULL,               -- a line for each step
    payload     BLOB NOT NULL                -- as it came
) STRICT;

CREATE INDEX stripe_events_received ON stripe_events (received_at, id);
CREATE INDEX stripe_events_parked ON stripe_events (waits_for) WHERE state = 'parked';
CREATE INDEX stripe_events_customer ON stripe_events (customer_id) WHERE customer_id <> '';

-- What each event told of a subscription, which is what all of them tell.
CREATE TABLE subscription_facts (
    subscription_id TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    customer_id     TEXT NOT NULL REFERENCES customers (id),
    kind            TEXT NOT NULL,
    at              INTEGER NOT NULL,
    seen            INTEGER NOT NULL,
    status          TEXT NOT NULL,
    was             TEXT NOT NULL,
    pro             INTEGER NOT NULL,
    cancels_at_end  INTEGER NOT NULL,
    started         INTEGER NOT NULL,
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    PRIMARY KEY (subscription_id, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX subscription_facts_customer ON subscription_facts (customer_id);

-- Prices that are Pro's. One that was stays so.
CREATE TABLE pro_prices (
    id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- A method is attached if that was the last that was said of it.
CREATE TABLE payment_methods (
    id          TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,               -- '': not known yet
    attached_at INTEGER NOT NULL,
    detached_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX payment_methods_customer ON payment_methods (customer_id);

-- Paid invoices and charges, and what became of the credits they bought.
CREATE TABLE payments (
    id          TEXT PRIMARY KEY,            -- the invoice's, or of a fix the intent's
    customer_id TEXT NOT NULL,               -- '': only its intent is known
    intent      TEXT NOT NULL,               -- '': unknown
    cents       INTEGER NOT NULL,
    credits     INTEGER NOT NULL,
    refunded    INTEGER NOT NULL,            -- credits that were countered for refunds
    disputed    INTEGER NOT NULL             -- and for disputes that are not won
) STRICT, WITHOUT ROWID;

CREATE INDEX payments_intent ON payments (intent) WHERE intent <> '';
CREATE INDEX payments_customer ON payments (customer_id);

CREATE TABLE fixes (
    id              TEXT PRIMARY KEY,
    customer_id     TEXT NOT NULL REFERENCES customers (id),
    external_id     TEXT NOT NULL,
    repository      TEXT NOT NULL,
    pull_request    TEXT NOT NULL,
    state           TEXT NOT NULL,
    paid_by         TEXT NOT NULL,
    cents           INTEGER NOT NULL,
    currency        TEXT NOT NULL,
    balance_after   INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,        -- of its charge
    begun_at        INTEGER NOT NULL,        -- the attempt
    tried_at        INTEGER NOT NULL,        -- when a request last had the turn to charge
    stripe_customer TEXT NOT NULL,
    method          TEXT NOT NULL,
    intent          TEXT NOT NULL,
    why             TEXT NOT NULL,           -- the last charge was refused
    UNIQUE (customer_id, external_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX fixes_created ON fixes (customer_id, created_at);

-- How far the reconciler has come.
CREATE TABLE reconciler (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    since       INTEGER NOT NULL,
    until       INTEGER NOT NULL,            -- 0 between two runs
    after_event TEXT NOT NULL,
    begun_at    INTEGER NOT NULL
) STRICT;

ALTER TABLE customers ADD COLUMN period_start INTEGER; -- of Pro
ALTER TABLE customers ADD COLUMN period_end INTEGER;
ALTER TABLE customers ADD COLUMN cancels_at_end INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_entries ADD COLUMN debt INTEGER NOT NULL DEFAULT 0; -- by how much it moved the customer's debt

-- +goose Down
ALTER TABLE ledger_entries DROP COLUMN debt;
ALTER TABLE customers DROP COLUMN cancels_at_end;
ALTER TABLE customers DROP COLUMN period_end;
ALTER TABLE customers DROP COLUMN period_start;
DROP TABLE reconciler;
DROP TABLE fixes;
DROP TABLE payments;
DROP TABLE payment_methods;
DROP TABLE pro_prices;
DROP TABLE subscription_facts;
DROP TABLE stripe_events;
