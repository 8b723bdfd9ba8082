#!/usr/bin/env python3
"""Label logs of real services by the statements that print them.

usage: label_logs.py {postgresql|kafka|prometheus|alertmanager} LOG OUT_structured.csv LINES [PATTERN=>TEXT ...]

PATTERN=>TEXT: what names the machine (paths, hosts, users), as a regular expression, and what stands for it.

PostgreSQL and Kafka: the format strings of their sources are listed below, `<*>` for what is
printed into them; a line must match one (where one statement's text
begins another's, the longer one). Prometheus and Alertmanager print the place in
the source (`caller=`): one statement per place and message.
Lines are taken at even distances, so that the sample has the frequencies of the log.
"""
import csv, re, sys
from collections import defaultdict

POSTGRESQL = """
LOG:  connection received: host=<*> port=<*>
LOG:  connection authorized: user=<*> database=<*> application_name=<*>
LOG:  replication connection authorized: user=<*> application_name=<*>
LOG:  disconnection: session time: <*> user=<*> database=<*> host=<*> port=<*>
LOG:  disconnection: session time: <*> user=<*> database=<*> host=[local]
LOG:  statement: <*>
LOG:  temporary file: path <*>, size <*>
LOG:  checkpoint starting: <*>
LOG:  checkpoint complete: wrote <*> buffers (<*>%); <*> WAL file(s) added, <*> removed, <*> recycled; write=<*> s, sync=<*> s, total=<*> s; sync files=<*>, longest=<*> s, average=<*> s; distance=<*> kB, estimate=<*> kB
LOG:  process <*> detected deadlock while waiting for <*> on <*> after <*> ms
LOG:  process <*> still waiting for <*> on <*> after <*> ms
LOG:  process <*> acquired <*> on <*> after <*> ms
LOG:  invalid length of startup packet
LOG:  automatic vacuum of table <*>: index scans: <*>
LOG:  automatic analyze of table <*>
LOG:  received replication command: <*>
LOG:  database system is ready to accept connections
LOG:  starting PostgreSQL <*>
LOG:  listening on Unix socket <*>
LOG:  listening on <*> address <*>, port <*>
LOG:  received SIGHUP, reloading configuration files
LOG:  database system was shut down at <*>
LOG:  database system is shut down
LOG:  starting logical decoding for slot <*>
LOG:  logical decoding found consistent point at <*>
LOG:  shutting down
LOG:  received fast shutdown request
LOG:  received immediate shutdown request
LOG:  parameter <*> cannot be changed without restarting the server
LOG:  parameter <*> changed to <*>
LOG:  configuration file <*> contains errors; unaffected changes were applied
LOG:  background worker <*> (PID <*>) exited with exit code <*>
LOG:  aborting any active transactions
LOG:  database system was not properly shut down; automatic recovery in progress
LOG:  database system was interrupted; last known up at <*>
LOG:  terminating any other active server processes
LOG:  redo starts at <*>
LOG:  redo done at <*> system usage: <*>
LOG:  invalid record length at <*>: wanted <*>, got <*>
LOG:  server process (PID <*>) was terminated by signal <*>: <*>
LOG:  background writer process (PID <*>) was terminated by signal <*>: <*>
LOG:  all server processes terminated; reinitializing
LOG:  could not send data to client: <*>
LOG:  unexpected EOF on client connection with an open transaction
LOG:  could not receive data from client: <*>
FATAL:  terminating connection due to administrator command
FATAL:  sorry, too many clients already
FATAL:  role <*> does not exist
FATAL:  database <*> does not exist
FATAL:  the database system is <*>
FATAL:  connection to client lost
WARNING:  there is no transaction in progress
WARNING:  there is already a transaction in progress
WARNING:  PID <*> is not a PostgreSQL backend process
WARNING:  you don't own a lock of type <*>
WARNING:  low stock for <*>
NOTICE:  table <*> does not exist, skipping
NOTICE:  hello <*>
STATEMENT:  <*>
ERROR:  invalid input syntax for type json<?>
ERROR:  invalid input syntax for type <t>: <*>
ERROR:  division by zero
ERROR:  current transaction is aborted, commands ignored until end of transaction block
ERROR:  value too long for type character varying(<*>)
ERROR:  unrecognized configuration parameter <*>
ERROR:  table <*> does not exist
ERROR:  syntax error at or near <*>
ERROR:  schema <*> already exists
ERROR:  role <*> does not exist
ERROR:  role <*> already exists
ERROR:  relation <q> already exists
ERROR:  relation <q> does not exist<?>
ERROR:  prepared statement <*> does not exist
ERROR:  prepared statement <*> already exists
ERROR:  permission denied for table <*>
ERROR:  operator does not exist: <*>
ERROR:  null value in column <*> of relation <*> violates not-null constraint
ERROR:  new row for relation <*> violates check constraint <*>
ERROR:  must be owner of table <*>
ERROR:  more than one row returned by a subquery used as an expression
ERROR:  invalid value for parameter <*>: <*>
ERROR:  invalid regular expression: <*>
ERROR:  integer out of range
ERROR:  insert or update on table <*> violates foreign key constraint <*>
ERROR:  function <*> does not exist<?>
ERROR:  function <*> already exists with same argument types
ERROR:  extension <*> is not available
ERROR:  duplicate key value violates unique constraint <*>
ERROR:  deadlock detected
ERROR:  date/time field value out of range: <*>
ERROR:  database <*> already exists
ERROR:  cursor <*> does not exist
ERROR:  could not open file <*> for reading: <*>
ERROR:  column <*> must appear in the GROUP BY clause or be used in an aggregate function<?>
ERROR:  column <q> of relation <q> already exists
ERROR:  column <q> does not exist<?>
ERROR:  canceling statement due to statement timeout
ERROR:  canceling autovacuum task
ERROR:  boom <*>
ERROR:  <C> can only be used in transaction blocks
ERROR:  replication slot <*> already exists
ERROR:  could not access file <*>: <*>
HINT:  No function matches the given name and argument types. You might need to add explicit type casts.
HINT:  No operator matches the given name and argument types. You might need to add explicit type casts.
HINT:  The extension must first be installed on the system where PostgreSQL is running.
HINT:  See server log for query details.
HINT:  COPY FROM instructs the PostgreSQL server process to read a file. You may want a client-side facility such as psql's \\copy.
HINT:  In a moment you should be able to reconnect to the database and repeat your command.
HINT:  Future log output will appear in log destination <*>.
CONTEXT:  PL/pgSQL function <*> line <*> at <*>
CONTEXT:  while updating tuple (<*>,<*>) in relation <*>
CONTEXT:  JSON data, line <*>: <*>
CONTEXT:  COPY <*>, line <*>, column <*>: <*>
CONTEXT:  slot <*>, output plugin <*>, in the <*> callback, associated LSN <*>
DETAIL:  Token <*> is invalid.
DETAIL:  The input string ended unexpectedly.
DETAIL:  Process holding the lock: <*>. Wait queue: <*>.
DETAIL:  Process <*> waits for <*> on <*>; blocked by process <*>.
DETAIL:  Key <*>=<*> is not present in table <*>.
DETAIL:  Key <*>=<*> already exists.
DETAIL:  Failing row contains (<*>).
DETAIL:  Could not open extension control file <*>: <*>.
DETAIL:  There are no running transactions.
DETAIL:  Streaming transactions committing after <*>, reading WAL from <*>.
DETAIL:  Logical decoding will begin using saved snapshot.
DETAIL:  The postmaster has commanded this server process to roll back the current transaction and exit, because another server process exited abnormally and possibly corrupted shared memory.
WARNING:  terminating connection because of crash of another server process
"""

KAFKA = """
Registered `<*>` MBean
Registered signal handlers for <*>
[<*> id=<*>] Starting controller
[<*> id=<*>] Starting broker
Updated <*> max connection creation rate to <*>
[SocketServer listenerType=<*>, nodeId=<*>] Created data-plane acceptor and processors for endpoint : <*>
[SocketServer listenerType=<*>, nodeId=<*>] Enabling request processing.
authorizerStart completed for endpoint <*>. Endpoint is now READY.
[LogLoader partition=<*>, dir=<*>] Loading producer state till offset <*>
[<w>]: Starting
[<*> id=<*>] Starting up.
[<*> id=<*>] Startup complete.
[<*> id=<*>] Waiting for <w5>
[<*> id=<*>] Finished waiting for <w5>
[<*> id=<*>] Transition from <*> to <*>
[RaftManager id=<*>] Attempting durable transition to <*>
[RaftManager id=<*>] Completed transition to <*>
[RaftManager id=<*>] Registered the listener <*>
[RaftManager id=<*>] Setting the next offset of <*> to <*> since there are no snapshots
[MetadataLoader id=<*>] InitializeNewPublishers: initializing <*> with a snapshot at offset <*>
[MetadataLoader id=<*>] <w>: The loader is still catching up because we have loaded up to offset <*>, but the high water mark is <*>
[QuorumController id=<*>] Registering periodic task <*> to run every <*> ms
[QuorumController id=<*>] Replayed a FeatureLevelRecord setting <*> to <*>
[QuorumController id=<*>] CreateTopics result(s): <*>
[QuorumController id=<*>] CreatePartitions result(s): <*>
[QuorumController id=<*>] DeleteTopics result(s): <*>
[QuorumController id=<*>] Replayed TopicRecord for topic <*> with topic ID <*>.
[QuorumController id=<*>] Replayed PartitionRecord for new partition <*> with topic ID <*> and PartitionRegistration<*>.
[QuorumController id=<*>] Replayed RemoveTopicRecord for topic <*> with ID <*>.
[QuorumController id=<*>] Replayed ConfigRecord for <*> which set configuration <*> to <*>
[QuorumController id=<*>] Replaying ProducerIdsRecord <*>
[QuorumController id=<*>] In the last <*> ms period, <*> controller events were completed, which took an average of <*> ms each. The slowest event was <*> which took <*> ms.
[Broker id=<*>] Transitioning <*> partition(s) to local leaders.
[Broker id=<*>] Creating new partition <*> with topic id <*>.
[Broker id=<*>] Leader <*> with topic id <*> starts at leader epoch <*> from offset <*> with partition epoch <*>, high watermark <*>, ISR <*>, adding replicas <*> and removing replicas <*><?>
[Broker id=<*>] Deleting <*> partition(s).
[Broker id=<*>] Expected partition <*> with topic id <*> to exist, but it was missing. Creating...
[<*> on broker <*>] Removed fetcher for partitions <*>
Created log for partition <*> in <*> with properties <*>
[Partition <*> broker=<*>] No checkpointed highwatermark is found for partition <*>
[Partition <*> broker=<*>] Log loaded for partition <*> with initial high watermark <*>
[<*> id=<*>] Updating topic <*> with new configuration : <*>
[LocalLog partition=<*>, dir=<*>] Rolled new log segment at offset <*> in <*> ms.
[ProducerStateManager partition=<*>] Wrote producer snapshot at offset <*> with <*> producer ids in <*> ms.
[GroupCoordinator id=<*>] Scheduling loading of metadata from <*> with epoch <*>
[GroupCoordinator id=<*>] Finished loading of metadata from <*> with epoch <*> in <*>ms where <*>ms was spent in the scheduler. Loaded <*> records which total to <*> bytes.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Dynamic member with unknown member id joins group <*> in <*> state. Created a new member id <*> <*>
[GroupCoordinator id=<*> topic=<*> partition=<*>] Pending dynamic member with id <*> joins group <*> in <*> state. Adding to the group now.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Preparing to rebalance group <*> in state <*> with old generation <*> (reason: <*>).
[GroupCoordinator id=<*> topic=<*> partition=<*>] Stabilized group <*> generation <*> with <*> members.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Assignment received from leader <*> for group <*> for generation <*>. The group has <*> members, <*> of which are static.
[GroupCoordinator id=<*> topic=<*> partition=<*>] [Group <*>] Member <*> has left group through explicit `LeaveGroup` request; client reason: <*>
[GroupCoordinator id=<*> topic=<*> partition=<*>] Group <*> with generation <*> is now empty.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Member <*> in group <*> has failed, removing it from the group.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Generated <*> tombstone records in <*> milliseconds while deleting offsets for partitions <*>.
[GroupCoordinator id=<*> topic=<*> partition=<*>] Deleted expired offsets of group <*> from group metadata cache due to group deletion.
Cleaner <*>: Beginning cleaning of log <*>
Cleaner <*>: Building offset map for <w>...
Cleaner <*>: Building offset map for log <*> for <*> segments in offset range [<*>, <*>).
Cleaner <*>: Growing offset map <*>
Cleaner <*>: Offset map for log <*> complete.
Cleaner <*>: Cleaning log <*> (cleaning prior to <*>, discarding tombstones prior to upper bound deletion horizon <*>)...
Cleaner <*>: Cleaning LogSegment<*> in log <*> into <*> with an upper bound deletion horizon <*> computed from the segment last modified time of <*>, <*> deletes.
Cleaner <*>: Swapping in cleaned segment <*> for segment(s) <*> in log <*>
Log for partition <*> is renamed to <*> and is scheduled for deletion
Deleted log for partition <*> in <*>.
[LocalLog partition=<*>, dir=<*>] Deleting segment files <*>
[UnifiedLog partition=<*>, dir=<*>] Deleting segments due to <*>: <*>
[UnifiedLog partition=<*>, dir=<*>] Incremented log start offset to <*> due to <*>
[UnifiedLog partition=<*>, dir=<*>] Deleting segment LogSegment<*> due to <*>
Deleted log <*>.
Deleted offset index <*>.
Deleted time index <*>.
Deleted producer state snapshot <*>
Deleted <w> <w>.
Loading logs from log dirs <*>
No logs found to be loaded in <*>
Loaded <*> logs in <*>
Starting log cleanup with a period of <*> ms.
Starting log flusher with a default period of <*> ms.
Starting the log cleaner
Kafka version: <*>
Kafka commitId: <*>
Kafka startTimeMs: <*>
Awaiting socket connections on <*>.
Sent auto-creation request for <*> to the active controller.
[SnapshotGenerator id=<*>] Creating new KRaft snapshot file <*> because <*>.
[<w>]: Recorded new KRaft controller, from now on will use node <*>
"""

HOLES = {"<*>": r".*", "<?>": r"(?: at character \d+|\. .*)?", "<q>": r'"[^"]*"', "<w>": r"[^ \]]+", "<w5>": r"(?:[^ ]+ ?)+", "<t>": r"(?!json)\S+", "<C>": r"[A-Z ]+"}


# (pattern, text): what names the machine the logs are from; from the command line.
redacted = []


def compiled(text):
    templates = []
    for number, line in enumerate(filter(None, text.splitlines()), 1):
        parts = re.split(r"(<\*>|<\?>|<q>|<w5?>|<t>|<C>)", line)
        pattern = "".join(HOLES.get(part) or re.escape(part) for part in parts)
        shown = re.sub(r"<\?>", "", re.sub(r"<(q|w5?|t|C)>", "<*>", line))
        templates.append((f"E{number}", re.compile(pattern + r"\Z", re.S), shown))
    return templates


def match(line, templates):
    """Exactly one; where one statement's text begins another's, the one with more text of its own."""
    hits = [(event, shown) for event, pattern, shown in templates if pattern.match(line)]
    if len(hits) > 1:
        hits.sort(key=lambda hit: -len(hit[1].replace("<*>", "")))
        own = [len(shown.replace("<*>", "")) for _, shown in hits[:2]]
        if own[0] == own[1]:
            raise SystemExit(f"several templates: {line}\n{hits}")
    return hits[0] if hits else None


def redact(line):
    for pattern, text in redacted:
        line = re.sub(pattern, text, line)
    return line


def by_format(lines, head, text):
    templates, rows, missed = compiled(text), [], defaultdict(int)
    for line in lines:
        found = re.match(head, line)
        if not found:
            continue
        content = redact(found.group("content").rstrip("\n"))
        if not content.strip():
            continue
        hit = match(content, templates)
        if hit:
            rows.append((content, *hit))
        else:
            missed[content[:150]] += 1
    return rows, missed


PAIR = re.compile(r'([A-Za-z_][\w]*)=("(?:[^"\\]|\\.)*"|\S*)')


def by_place(lines):
    """One statement per place and message; other values vary, a component only if it is seen to."""
    parsed = []
    for line in lines:
        found = re.match(r"ts=\S+ caller=(\S+) level=(\w+) ?(.*)$", line.rstrip("\n"))
        if found and found.group(3):
            content = redact(found.group(3))
            pairs = PAIR.findall(content)
            message = dict(pairs).get("msg") or dict(pairs).get("received") or pairs[0][0]
            parsed.append((content, (found.group(1), message), pairs))
    constant = defaultdict(set)
    for _, place, pairs in parsed:
        for key, value in pairs:
            constant[place, key].add(value)
    numbers, rows = {}, []
    for content, place, pairs in parsed:
        event = numbers.setdefault(place, f"E{len(numbers) + 1}")
        shown = " ".join(f"{k}={v}" if k in ("msg", "received") or (k == "component" and len(constant[place, k]) == 1) else f"{k}=<*>" for k, v in pairs)
        rows.append((content, event, shown))
    texts = {}
    return [(content, event, texts.setdefault(event, shown)) for content, event, shown in rows], {}


def main():
    kind, log, out = sys.argv[1:4]
    count = int(sys.argv[4])
    redacted.extend(argument.split("=>", 1) for argument in sys.argv[5:])
    lines = open(log, errors="replace").readlines()
    if kind == "postgresql":
        rows, missed = by_format(lines, r"\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] (?:\S+@\S+ )?(?P<content>[A-Z]+:  .*)", POSTGRESQL)
    elif kind == "kafka":
        rows, missed = by_format(lines, r"\[[^\]]*\] (?:INFO|WARN|ERROR) \S+ - (?P<content>.*)", KAFKA)
    else:
        rows, missed = by_place(lines)
    print(f"{kind}: {len(rows)} lines match one template, {sum(missed.values())} none", file=sys.stderr)
    for content, number in sorted(missed.items(), key=lambda item: -item[1])[:12]:
        print(f"  {number} {content}", file=sys.stderr)
    step = max(len(rows) / count, 1)
    sample = [rows[int(at * step)] for at in range(min(count, len(rows)))]
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["LineId", "Content", "EventId", "EventTemplate"])
        writer.writerows((number, *row) for number, row in enumerate(sample, 1))
    print(f"  {len(sample)} lines, {len({row[1] for row in sample})} templates", file=sys.stderr)


main()
