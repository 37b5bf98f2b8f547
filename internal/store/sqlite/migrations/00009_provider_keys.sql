-- Providers' own keys. A row says that a key may exist there: it is written before
-- the provider is asked, and removed once the key is known to be gone.

-- +goose Up
ALTER TABLE credentials ADD COLUMN enforcement TEXT NOT NULL DEFAULT 'gateway';

CREATE TABLE provider_keys (
    id       TEXT PRIMARY KEY,               -- the credential's, which is there once it is granted
    provider TEXT NOT NULL,
    key_id   TEXT NOT NULL,                  -- the provider's; '' until the key is granted or found
    sweep_at INTEGER NOT NULL,               -- when it is to be deleted
    doomed   INTEGER NOT NULL                -- it will be deleted, whatever comes
) STRICT, WITHOUT ROWID;

CREATE INDEX provider_keys_sweep ON provider_keys (sweep_at);

ALTER TABLE holds DROP COLUMN node;

-- +goose Down
ALTER TABLE holds ADD COLUMN node TEXT NOT NULL DEFAULT '';
DROP TABLE provider_keys;
ALTER TABLE credentials DROP COLUMN enforcement;
