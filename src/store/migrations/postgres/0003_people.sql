-- What people teach: who belongs together, and what was worth waking up for.
CREATE TABLE lesson (
  id BIGSERIAL PRIMARY KEY,
  kind TEXT NOT NULL,
  cluster TEXT NOT NULL,
  a TEXT NOT NULL,
  b TEXT NOT NULL,
  person TEXT NOT NULL,
  because TEXT NOT NULL,
  at BIGINT NOT NULL
);

-- The newest word on an incident, or on a suppressed alert that people were asked about.
CREATE TABLE label (
  key TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  score DOUBLE PRECISION,
  seen TEXT NOT NULL,
  share DOUBLE PRECISION,
  real BOOLEAN NOT NULL,
  person TEXT NOT NULL,
  because TEXT NOT NULL,
  at BIGINT NOT NULL
);

-- Merges and splits that people asked for; the intake carries them out between two batches.
CREATE TABLE regroup (
  id BIGSERIAL PRIMARY KEY,
  body TEXT NOT NULL,
  asked_at BIGINT NOT NULL,
  done_at BIGINT,
  outcome TEXT
);
CREATE INDEX regroup_open ON regroup(id) WHERE done_at IS NULL;

-- Suppressed alerts that people were asked about.
CREATE TABLE asked (
  key TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  name TEXT NOT NULL,
  subject TEXT NOT NULL,
  reason TEXT NOT NULL,
  explanation TEXT NOT NULL,
  score DOUBLE PRECISION,
  share DOUBLE PRECISION NOT NULL,
  starts_at BIGINT NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX posted_incident ON posted(incident);
