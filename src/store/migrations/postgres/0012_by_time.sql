-- What the day's budget, the learning and a restart ask for by time, found without reading all that ever was.
CREATE INDEX incident_event_reasoned ON incident_event(at) WHERE kind = 'reasoned';
CREATE INDEX incident_event_diagnosed ON incident_event(at) WHERE kind = 'diagnosed';
CREATE INDEX audit_conversed ON audit(at) WHERE kind = 'conversation.reasoned';
CREATE INDEX ending_at ON ending(at);
CREATE INDEX execution_started ON execution(started_at);
