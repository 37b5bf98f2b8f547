-- Stripe's events, what is known by them, and fixes. Times are microseconds
-- since the Unix epoch; 0 where an event did not say one.

-- +goose Up
-- The tables that nodes use come first, each locked at once as it will have to be:
-- who waits for one of them holds nothing that a later one needs.
ALTER TABLE customers
    ADD COLUMN period_start bigint, -- of Pro
    ADD COLUMN period_end bigint,
    ADD COLUMN cancels_at_end boolean NOT NULL DEFAULT false;
ALTER TABLE ledger_entries ADD COLUMN debt bigint NOT NULL DEFAULT 0; -- by how much it moved the customer's debt

CREATE TABLE stripe_events (
    id          text COLLATE "C" PRIMARY KEY,         -- Stripe's, or made of the hash of what can't be read
    type        text COLLATE "C" NOT NULL,
    payload     bytea NOT NULL,                       -- as it came
    state       text COLLATE "C" NOT NULL,
    reason      text NOT NULL DEFAULT '',             -- what was decided, and why
    waits_for   text COLLATE "C" NOT NULL DEFAULT '', -- of a parked one
    customer_id text COLLATE "C" NOT NULL DEFAULT '', -- whose it is, so that it goes with the customer
    received_at bigint NOT NULL,
    decided_at  bigint,
    history     text NOT NULL                         -- a line for each step
);

CREATE INDEX stripe_events_received ON stripe_events (received_at, id);
CREATE INDEX stripe_events_parked ON stripe_events (waits_for) WHERE state = 'parked';
CREATE INDEX stripe_events_customer ON stripe_events (customer_id) WHERE customer_id <> '';

-- What each event told of a subscription, which is what all of them tell.
CREATE TABLE subscription_facts (
    subscription_id text COLLATE "C" NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    customer_id     text COLLATE "C" NOT NULL REFERENCES customers (id),
    kind            text COLLATE "C" NOT NULL,
    at              bigint NOT NULL,
    seen            bigint NOT NULL,
    status          text COLLATE "C" NOT NULL,
    was             text COLLATE "C" NOT NULL,
    pro             boolean NOT NULL,
    cancels_at_end  boolean NOT NULL,
    started         bigint NOT NULL,
    period_start    bigint NOT NULL,
    period_end      bigint NOT NULL,
    PRIMARY KEY (subscription_id, event_id)
);

CREATE INDEX subscription_facts_customer ON subscription_facts (customer_id);

-- Prices that are Pro's. One that was stays so.
CREATE TABLE pro_prices (
    id text COLLATE "C" PRIMARY KEY
);

-- A method is attached if that was the last that was said of it.
CREATE TABLE payment_methods (
    id          text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL, -- '': not known yet
    attached_at bigint NOT NULL,
    detached_at bigint NOT NULL
);

CREATE INDEX payment_methods_customer ON payment_methods (customer_id);

-- Paid invoices and charges, and what became of the credits they bought.
CREATE TABLE payments (
    id          text COLLATE "C" PRIMARY KEY, -- the invoice's, or of a fix the intent's
    customer_id text COLLATE "C" NOT NULL,    -- '': only its intent is known
    intent      text COLLATE "C" NOT NULL,    -- '': unknown
    cents       bigint NOT NULL,
    credits     bigint NOT NULL,
    refunded    bigint NOT NULL,              -- credits that were countered for refunds
    disputed    bigint NOT NULL               -- and for disputes that are not won
);

CREATE INDEX payments_intent ON payments (intent) WHERE intent <> '';
CREATE INDEX payments_customer ON payments (customer_id);

CREATE TABLE fixes (
    id              text COLLATE "C" PRIMARY KEY,
    customer_id     text COLLATE "C" NOT NULL REFERENCES customers (id),
    external_id     text COLLATE "C" NOT NULL,
    repository      text NOT NULL,
    pull_request    text NOT NULL,
    state           text COLLATE "C" NOT NULL,
    paid_by         text COLLATE "C" NOT NULL,
    cents           bigint NOT NULL,
    currency        text COLLATE "C" NOT NULL,
    balance_after   bigint NOT NULL,
    created_at      bigint NOT NULL,
    attempt         bigint NOT NULL, -- of its charge
    begun_at        bigint NOT NULL, -- the attempt
    tried_at        bigint NOT NULL, -- when a request last had the turn to charge
    stripe_customer text COLLATE "C" NOT NULL,
    method          text COLLATE "C" NOT NULL,
    intent          text COLLATE "C" NOT NULL,
    why             text NOT NULL,   -- the last charge was refused
    UNIQUE (customer_id, external_id)
);

CREATE INDEX fixes_created ON fixes (customer_id, created_at);

-- How far the reconciler has come.
CREATE TABLE reconciler (
    one         integer PRIMARY KEY CHECK (one = 1),
    since       bigint NOT NULL,
    until       bigint NOT NULL, -- 0 between two runs
    after_event text COLLATE "C" NOT NULL,
    begun_at    bigint NOT NULL
);

-- +goose Down
ALTER TABLE customers
    DROP COLUMN cancels_at_end,
    DROP COLUMN period_end,
    DROP COLUMN period_start;
ALTER TABLE ledger_entries DROP COLUMN debt;
DROP TABLE reconciler;
DROP TABLE fixes;
DROP TABLE payments;
DROP TABLE payment_methods;
DROP TABLE pro_prices;
DROP TABLE subscription_facts;
DROP TABLE stripe_events;
