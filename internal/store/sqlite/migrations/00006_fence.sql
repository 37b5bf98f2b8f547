-- Marks a copy of a database, so that no node serves it before an operator
-- says so.

-- +goose Up
CREATE TABLE fence (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    copied_at INTEGER NOT NULL,
    origin    TEXT NOT NULL             -- name of the file it is a copy of
) STRICT;

-- +goose Down
DROP TABLE fence;
