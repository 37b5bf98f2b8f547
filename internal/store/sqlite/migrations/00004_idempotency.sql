-- Answers to requests with an Idempotency-Key, for a day. They are numbered in
-- the order they are written, so the old ones are the first.

-- +goose Up
CREATE TABLE outcomes (
    number      INTEGER PRIMARY KEY,
    request     BLOB NOT NULL UNIQUE,  -- SHA-256 of scope, method, path and key
    body        BLOB NOT NULL,         -- SHA-256 of the request's raw body
    customer_id TEXT NOT NULL,         -- whose it is, so that it goes with the customer
    created_at  INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    key_id      TEXT NOT NULL,         -- which master key sealed it
    sealed      BLOB NOT NULL
) STRICT;

CREATE INDEX outcomes_customer ON outcomes (customer_id);
CREATE INDEX outcomes_key ON outcomes (key_id, created_at);

-- +goose Down
DROP TABLE outcomes;
