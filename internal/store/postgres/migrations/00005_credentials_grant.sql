-- A grant goes when its customer is purged, and the foreign key then looks for its
-- credentials: without an index in all of everybody's, for each grant.

-- +goose Up
CREATE INDEX credentials_grant ON credentials (grant_id);

-- +goose Down
DROP INDEX credentials_grant;
