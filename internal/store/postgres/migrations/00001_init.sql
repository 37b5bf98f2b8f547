-- All that SQLite's store keeps, and the nodes. Times are microseconds since
-- the Unix epoch, UTC, by this server's clock where they decide anything. Texts
-- that are compared or ordered are so by bytes, on every server alike.

-- +goose Up

-- The clock that decides: the server's own, read when it is called and not when
-- the transaction began. Tests replace it.
CREATE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT (date_part(''epoch'', clock_timestamp()) * 1000000)::bigint'; -- exact: a double has the microseconds until 2112

CREATE TABLE customers (
    id                 text COLLATE "C" PRIMARY KEY,
    name               text NOT NULL,
    email              text NOT NULL,                    -- as given
    email_canonical    text COLLATE "C" NOT NULL UNIQUE, -- one mailbox, one customer
    company            text NOT NULL,                    -- '': none
    source             text NOT NULL,
    subscription_plan  text NOT NULL,
    subscription_state text NOT NULL,                    -- '': never subscribed
    trial_fixes_limit  bigint NOT NULL,
    trial_fixes_used   bigint NOT NULL,
    credit_balance     bigint NOT NULL CHECK (credit_balance >= 0),
    credit_debt        bigint NOT NULL CHECK (credit_debt >= 0),
    stripe_customer_id text COLLATE "C" UNIQUE,
    created_at         bigint NOT NULL,
    suspended_at       bigint,
    load_test          boolean NOT NULL DEFAULT false,   -- signed up as a load test's
    erased_at          bigint
);

CREATE TABLE api_keys (
    customer_id  text COLLATE "C" NOT NULL REFERENCES customers (id),
    id           text COLLATE "C" NOT NULL,
    public_id    text COLLATE "C" NOT NULL UNIQUE,       -- the id inside the key
    hash         bytea NOT NULL,                         -- SHA-256 of the key
    prefix       text COLLATE "C" NOT NULL,
    name         text NOT NULL,                          -- '': none
    created_at   bigint NOT NULL,
    last_used_at bigint,
    expires_at   bigint,
    retires_at   bigint,                                 -- end of the grace, once replaced
    revoked_at   bigint,
    PRIMARY KEY (customer_id, id)
) WITH (fillfactor = 90); -- room for last_used_at, which changes each minute of use

CREATE TABLE ledger_entries (
    customer_id   text COLLATE "C" NOT NULL REFERENCES customers (id),
    number        bigint NOT NULL,                       -- 1, 2, 3 … for each customer
    id            text COLLATE "C" NOT NULL,
    amount        bigint NOT NULL,
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    source        text NOT NULL,
    reference     text COLLATE "C" NOT NULL UNIQUE,      -- the business fact
    created_at    bigint NOT NULL,
    PRIMARY KEY (customer_id, number)
);

-- Whom an operator's purge may remove, for the length of its own transaction:
-- no other one ever sees a row.
CREATE TABLE purges (
    customer_id text COLLATE "C" PRIMARY KEY
);

-- +goose StatementBegin
CREATE FUNCTION ledger_entries_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT 1 FROM purges WHERE customer_id = OLD.customer_id) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'ledger entries are never removed';
    END IF;
    RAISE EXCEPTION 'ledger entries are never changed';
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER ledger_entries_never_change BEFORE UPDATE OR DELETE ON ledger_entries
FOR EACH ROW EXECUTE FUNCTION ledger_entries_never_change();

CREATE TRIGGER ledger_entries_never_truncated BEFORE TRUNCATE ON ledger_entries
FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_never_change();

-- The times of the requests a key was admitted at, oldest first, at least one.
-- A logged table: an unlogged one is empty after a crash, and then all limits
-- would be free. See docs/adr/0014.
CREATE TABLE rate_windows (
    policy  text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    stamps  bigint[] NOT NULL,
    granted integer NOT NULL,                            -- how many the last statement admitted
    PRIMARY KEY (key, policy)                            -- the key first: it tells nearly all rows apart by itself
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Compressing windows costs more than their space.
ALTER TABLE rate_windows ALTER COLUMN stamps SET STORAGE EXTERNAL;

-- What is to be done later. A job's name is its kind and its subject; a row
-- that is done is removed. Who claims a job moves due_at to the end of the
-- lease, so that the job of a worker that died is due again by itself.
CREATE TABLE jobs (
    kind       text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    due_at     bigint NOT NULL,
    claim      bigint NOT NULL,                          -- goes up with each claim, and from one row of a name to the next
    tries      bigint NOT NULL DEFAULT 0,
    running    boolean NOT NULL DEFAULT false,           -- claimed
    dead_at    bigint,                                   -- given up
    reason     text NOT NULL DEFAULT '',                 -- why the last try failed
    PRIMARY KEY (kind, subject)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX jobs_due ON jobs (kind, due_at) WHERE dead_at IS NULL;

-- Answers to requests with an Idempotency-Key, for a day.
CREATE TABLE outcomes (
    request     bytea PRIMARY KEY,                       -- SHA-256 of scope, method, path and key
    body        bytea NOT NULL,                          -- SHA-256 of the request's raw body
    customer_id text COLLATE "C" NOT NULL,               -- whose it is, so that it goes with the customer
    created_at  bigint NOT NULL,
    status      bigint NOT NULL,
    key_id      text COLLATE "C" NOT NULL,               -- which master key sealed it
    sealed      bytea NOT NULL
);

CREATE INDEX outcomes_customer ON outcomes (customer_id);
CREATE INDEX outcomes_created ON outcomes (created_at);

-- The nodes that are alive, or were lately.
CREATE TABLE nodes (
    id      text COLLATE "C" PRIMARY KEY,
    name    text NOT NULL,
    version text NOT NULL,
    limits  text NOT NULL,                               -- JSON: policy to limit
    beat_at bigint NOT NULL
);

-- Whose database this is, and which programs may use it.
CREATE TABLE cluster (
    one          integer PRIMARY KEY CHECK (one = 1),
    name         text NOT NULL,   -- '': no node has served it yet
    -- A program that knows this schema version or a newer one can use the
    -- database, also where later ones were applied to it. A migration that older
    -- programs can't live with raises it.
    least_schema bigint NOT NULL
);

INSERT INTO cluster VALUES (1, '', 1);

-- +goose Down
DROP TABLE cluster;
DROP TABLE nodes;
DROP TABLE outcomes;
DROP TABLE jobs;
DROP TABLE rate_windows;
DROP TABLE ledger_entries;
DROP FUNCTION ledger_entries_never_change;
DROP TABLE purges;
DROP TABLE api_keys;
DROP TABLE customers;
DROP FUNCTION now_us;
