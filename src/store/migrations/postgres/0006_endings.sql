-- How incidents ended, by what their first alert was: a kind that passes by itself wakes nobody.
CREATE TABLE ending (
  incident TEXT PRIMARY KEY,
  cluster TEXT NOT NULL,
  name TEXT NOT NULL,
  subject TEXT NOT NULL,
  by_itself BOOLEAN NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX ending_kind ON ending(cluster, name, subject);
