-- How many credits a dispute is about, the most that was said of it: what is given
-- back when it is won depends on all that is disputed of the payment by then.

-- +goose Up
CREATE TABLE disputes (
    id          text COLLATE "C" PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL,
    payment_id  text COLLATE "C" NOT NULL,
    credits     bigint NOT NULL,
    won         boolean NOT NULL
);

CREATE INDEX disputes_customer ON disputes (customer_id);

-- +goose Down
DROP TABLE disputes;
