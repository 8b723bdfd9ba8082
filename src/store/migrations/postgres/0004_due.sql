-- What a driver has to look at is found by its state, without reading every incident.
ALTER TABLE incident ADD COLUMN severity BIGINT NOT NULL DEFAULT 0;
ALTER TABLE incident ADD COLUMN remembered BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE incident SET remembered = TRUE WHERE is_over AND body NOT LIKE '%"post_mortem":null%';
CREATE INDEX incident_due ON incident(state, severity);
CREATE INDEX incident_to_remember ON incident(number) WHERE state = 'resolved' AND NOT remembered;
