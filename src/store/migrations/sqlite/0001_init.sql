-- One log: what people see is derived from incident_event; audit chains every decision.
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  dedupe TEXT UNIQUE,
  body TEXT NOT NULL,
  received_at BIGINT NOT NULL,
  done_at BIGINT
);
CREATE INDEX inbox_open ON inbox(id) WHERE done_at IS NULL;

CREATE TABLE alert (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  inbox_id BIGINT NOT NULL,
  cluster TEXT NOT NULL,
  team TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  name TEXT NOT NULL,
  subject TEXT NOT NULL,
  severity TEXT NOT NULL,
  status TEXT NOT NULL,
  starts_at BIGINT NOT NULL,
  ends_at BIGINT,
  value DOUBLE PRECISION,
  verdict TEXT NOT NULL,
  reason TEXT NOT NULL,
  explanation TEXT NOT NULL,
  incident TEXT,
  labels TEXT,
  judged_at BIGINT NOT NULL
);
CREATE INDEX alert_fingerprint ON alert(fingerprint);
CREATE INDEX alert_incident ON alert(incident);

CREATE TABLE incident (
  id TEXT PRIMARY KEY,
  number BIGINT NOT NULL UNIQUE,
  cluster TEXT NOT NULL,
  team TEXT NOT NULL,
  state TEXT NOT NULL,
  is_over BOOLEAN NOT NULL,
  version BIGINT NOT NULL,
  opened_at BIGINT NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX incident_open ON incident(is_over);

CREATE TABLE incident_event (
  incident TEXT NOT NULL,
  seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  at BIGINT NOT NULL,
  body TEXT NOT NULL,
  prev TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (incident, seq)
);

CREATE TABLE audit (
  seq BIGINT PRIMARY KEY,
  at BIGINT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  body TEXT NOT NULL,
  prev TEXT NOT NULL,
  hash TEXT NOT NULL
);
CREATE TABLE audit_head (
  one BIGINT PRIMARY KEY,
  seq BIGINT NOT NULL,
  hash TEXT NOT NULL
);
INSERT INTO audit_head(one, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE evidence (
  id TEXT PRIMARY KEY,
  incident TEXT NOT NULL,
  digest TEXT NOT NULL,
  at BIGINT NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX evidence_incident ON evidence(incident);

CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  incident TEXT,
  body TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  not_before BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  done_at BIGINT,
  error TEXT
);
CREATE INDEX outbox_open ON outbox(state, not_before);

-- What has been posted under which of our keys, so that edits find their message.
CREATE TABLE posted (
  key TEXT PRIMARY KEY,
  chat TEXT NOT NULL,
  channel TEXT NOT NULL,
  ts TEXT NOT NULL,
  thread TEXT,
  incident TEXT,
  at BIGINT NOT NULL,
  card TEXT NOT NULL
);
CREATE INDEX posted_ts ON posted(channel, ts);

CREATE TABLE vote (
  plan TEXT NOT NULL,
  person TEXT NOT NULL,
  decision TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (plan, person)
);

CREATE TABLE execution (
  plan TEXT PRIMARY KEY,
  incident TEXT NOT NULL,
  stage TEXT NOT NULL,
  digest TEXT NOT NULL,
  before TEXT NOT NULL,
  result TEXT,
  started_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  deadline BIGINT NOT NULL
);

CREATE TABLE message (
  channel TEXT NOT NULL,
  ts TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (channel, ts)
);

CREATE TABLE setting (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  at BIGINT NOT NULL
);
