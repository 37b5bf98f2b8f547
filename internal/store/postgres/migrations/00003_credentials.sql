-- Credentials for AI providers, what they may spend and did, and the audit trail.
-- Money is in millionths of a dollar.

-- +goose Up
CREATE TABLE grants (
    id          text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL REFERENCES customers (id),
    created_at  bigint NOT NULL,
    ttl         bigint NOT NULL,                         -- of its credentials, in microseconds
    cap         bigint NOT NULL,                         -- what they together may spend; 0: no bound
    spent       bigint NOT NULL,
    github_job  text COLLATE "C" NOT NULL,
    github_run  text COLLATE "C" NOT NULL
);

CREATE INDEX grants_customer ON grants (customer_id);

CREATE TABLE credentials (
    id          text COLLATE "C" PRIMARY KEY,
    grant_id    text COLLATE "C" NOT NULL REFERENCES grants (id),
    customer_id text COLLATE "C" NOT NULL,
    key_id      text COLLATE "C" NOT NULL,               -- the API key that asked for it
    provider    text COLLATE "C" NOT NULL,
    public_id   text COLLATE "C" NOT NULL UNIQUE,        -- the id inside the token
    hash        bytea NOT NULL,                          -- SHA-256 of the token
    created_at  bigint NOT NULL,
    expires_at  bigint NOT NULL,
    revoked_at  bigint
);

CREATE INDEX credentials_customer ON credentials (customer_id, id);
CREATE INDEX credentials_revoked ON credentials (revoked_at) WHERE revoked_at IS NOT NULL;

-- Money set aside for calls under way. What lapses was a dead node's.
CREATE TABLE holds (
    id          text COLLATE "C" PRIMARY KEY,
    grant_id    text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    node        text COLLATE "C" NOT NULL,
    micro       bigint NOT NULL,
    lapses_at   bigint NOT NULL
);

CREATE INDEX holds_customer ON holds (customer_id);

-- What a customer spent in a day.
CREATE TABLE spending (
    customer_id text COLLATE "C" NOT NULL,
    day         bigint NOT NULL,                         -- since the epoch, UTC
    micro       bigint NOT NULL,
    PRIMARY KEY (customer_id, day)
);

-- Rows are added, and never changed or removed.
CREATE TABLE audit (
    id            text COLLATE "C" PRIMARY KEY,
    at            bigint NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    key_id        text COLLATE "C" NOT NULL,
    credential_id text COLLATE "C" NOT NULL,
    grant_id      text COLLATE "C" NOT NULL,
    action        text COLLATE "C" NOT NULL,
    provider      text COLLATE "C" NOT NULL,
    model         text COLLATE "C" NOT NULL,
    requests      bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost          bigint NOT NULL,
    estimated     boolean NOT NULL,
    outcome       text COLLATE "C" NOT NULL,
    job           text COLLATE "C" NOT NULL              -- of a client's report: counts once
);

CREATE INDEX audit_customer ON audit (customer_id, at);
CREATE UNIQUE INDEX audit_report ON audit (customer_id, job) WHERE action = 'report';

ALTER TABLE customers ADD COLUMN day_budget bigint; -- what it may spend in a day

-- +goose StatementBegin
CREATE FUNCTION audit_never_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT 1 FROM purges WHERE customer_id = OLD.customer_id) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit trail is never removed';
    END IF;
    RAISE EXCEPTION 'the audit trail is never changed';
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER audit_never_changes BEFORE UPDATE OR DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION audit_never_changes();

CREATE TRIGGER audit_never_truncated BEFORE TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_never_changes();

-- +goose Down
DROP TABLE audit;
DROP FUNCTION audit_never_changes;
ALTER TABLE customers DROP COLUMN day_budget;
DROP TABLE spending;
DROP TABLE holds;
DROP TABLE credentials;
DROP TABLE grants;
