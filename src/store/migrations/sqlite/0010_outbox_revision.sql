-- Grows whenever a message is asked for again: an edit that was asked for during a delivery is not
-- taken for delivered.
ALTER TABLE outbox ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
