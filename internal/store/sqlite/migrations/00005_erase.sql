-- Marks customers whose personal data was removed. Their ledgers stay.

-- +goose Up
ALTER TABLE customers ADD COLUMN erased_at INTEGER;

-- +goose Down
ALTER TABLE customers DROP COLUMN erased_at;
