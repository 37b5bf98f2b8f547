-- Providers' own keys. A row says that a key may exist there: it is written before
-- the provider is asked, and removed once the key is known to be gone.

-- +goose Up
ALTER TABLE credentials ADD COLUMN enforcement text COLLATE "C" NOT NULL DEFAULT 'gateway';

CREATE TABLE provider_keys (
    id       text COLLATE "C" PRIMARY KEY,            -- the credential's, which is there once it is granted
    provider text COLLATE "C" NOT NULL,
    key_id   text COLLATE "C" NOT NULL,               -- the provider's; '' until the key is granted or found
    sweep_at bigint NOT NULL,                         -- when it is to be deleted
    doomed   boolean NOT NULL                         -- it will be deleted, whatever comes
);

CREATE INDEX provider_keys_sweep ON provider_keys (sweep_at);

ALTER TABLE holds DROP COLUMN node;

-- +goose Down
ALTER TABLE holds ADD COLUMN node text COLLATE "C" NOT NULL DEFAULT '';
DROP TABLE provider_keys;
ALTER TABLE credentials DROP COLUMN enforcement;
