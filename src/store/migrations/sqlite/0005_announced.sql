-- Changes that other systems have announced: deployments, flags. Kept for a week of event time.
CREATE TABLE announced (
  key TEXT PRIMARY KEY,
  service TEXT NOT NULL,
  at BIGINT NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX announced_at ON announced(at);
