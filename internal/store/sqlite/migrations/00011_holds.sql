-- A hold says what call it is for, so that the call can be booked though its node
-- died. That lapses_at has no index is meant: holds are few and renewed often.
--
-- node, which migration 9 dropped, is back: a node of the version before that one
-- writes it, and may serve the file while `migrate up` runs. It can go once there
-- is no such node.

-- +goose Up
ALTER TABLE holds ADD COLUMN key_id TEXT NOT NULL DEFAULT ''; -- of the call, as the trail has it; '': of an older version
ALTER TABLE holds ADD COLUMN credential_id TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN node TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE holds DROP COLUMN node;
ALTER TABLE holds DROP COLUMN model;
ALTER TABLE holds DROP COLUMN provider;
ALTER TABLE holds DROP COLUMN credential_id;
ALTER TABLE holds DROP COLUMN key_id;
