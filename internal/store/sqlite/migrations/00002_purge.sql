-- Lets an operator's purge remove customers with their ledgers, and nothing
-- else: whom the table names for the length of the purge's own transaction,
-- and of those only who signed up as a load test's.

-- +goose Up
CREATE TABLE purges (
    customer_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

ALTER TABLE customers ADD COLUMN load_test INTEGER NOT NULL DEFAULT 0; -- 1: signed up as a load test's

DROP TRIGGER ledger_entries_never_vanish;

-- +goose StatementBegin
CREATE TRIGGER ledger_entries_never_vanish BEFORE DELETE ON ledger_entries
WHEN NOT EXISTS (SELECT 1 FROM purges WHERE customer_id = OLD.customer_id)
BEGIN
    SELECT RAISE(ABORT, 'ledger entries are never removed');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER ledger_entries_never_vanish;

-- +goose StatementBegin
CREATE TRIGGER ledger_entries_never_vanish BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'ledger entries are never removed');
END;
-- +goose StatementEnd

ALTER TABLE customers DROP COLUMN load_test;

DROP TABLE purges;
