-- One process leads. The epoch grows with every change of holder, and commits are checked against it; the
-- beat grows while the holder lives.
CREATE TABLE lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  beat INTEGER NOT NULL
);
INSERT INTO lease(name, holder, epoch, beat) VALUES ('watch', '', 0, 0);

-- Grows with every change of what processes keep in memory.
CREATE TABLE revision (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
);
INSERT INTO revision(name, value) VALUES ('labels', 0), ('endings', 0);

-- What another process has posted or edited is found by it.
ALTER TABLE message ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX message_changed ON message(changed);
