-- Alerts come in packed: the payloads of one group commit, compressed, in one row.
ALTER TABLE inbox ADD COLUMN packed BYTEA;
ALTER TABLE inbox ADD COLUMN frames BIGINT NOT NULL DEFAULT 1;

-- An alert that is sent again with the same verdict: fingerprint and number of times, packed.
CREATE TABLE alert_repeat (
  id BIGSERIAL PRIMARY KEY,
  first_inbox BIGINT NOT NULL,
  last_inbox BIGINT NOT NULL,
  reason TEXT NOT NULL,
  alerts BIGINT NOT NULL,
  judged_at BIGINT NOT NULL,
  packed BYTEA NOT NULL
);
CREATE INDEX alert_repeat_at ON alert_repeat(judged_at);

-- Every alert is counted once, in the transaction that judges it.
CREATE TABLE funnel (
  hour BIGINT NOT NULL,
  verdict TEXT NOT NULL,
  reason TEXT NOT NULL,
  count BIGINT NOT NULL,
  PRIMARY KEY (hour, verdict, reason)
);
INSERT INTO funnel(hour, verdict, reason, count)
  SELECT judged_at / 3600000, verdict, reason, count(*) FROM alert GROUP BY judged_at / 3600000, verdict, reason;
