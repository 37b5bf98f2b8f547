-- A hold says what call it is for, so that the call can be booked though its node
-- died. That lapses_at has no index is meant: holds are few and renewed often.
--
-- node, which migration 4 dropped, is back: a node of the version before that one
-- writes it, and goes on serving while migrations 4 to 6 run in one go. It can go
-- once there is no such node.

-- +goose Up
ALTER TABLE holds
    ADD COLUMN key_id        text COLLATE "C" NOT NULL DEFAULT '', -- of the call, as the trail has it; '': of an older version
    ADD COLUMN credential_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN provider      text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN model         text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS node text COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE holds
    DROP COLUMN node,
    DROP COLUMN model,
    DROP COLUMN provider,
    DROP COLUMN credential_id,
    DROP COLUMN key_id;
