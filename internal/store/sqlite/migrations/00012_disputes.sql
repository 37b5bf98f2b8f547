-- How many credits a dispute is about, the most that was said of it: what is given
-- back when it is won depends on all that is disputed of the payment by then.

-- +goose Up
CREATE TABLE disputes (
    id          TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    payment_id  TEXT NOT NULL,
    credits     INTEGER NOT NULL,
    won         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX disputes_customer ON disputes (customer_id);

-- +goose Down
DROP TABLE disputes;
