-- For wrk: batches of 64 alerts over 20,000 instances, written before the clock runs.
local bodies = {}
local now = os.date("!%Y-%m-%dT%H:%M:%SZ")
local instance = 0
for body = 1, 625 do
  local alerts = {}
  for n = 1, 64 do
    instance = instance % 20000 + 1
    local service = math.floor(instance / 10)
    alerts[n] = string.format(
      '{"labels":{"alertname":"HighErrorRate","cluster":"bench","namespace":"shop","service":"svc-%d",'
        .. '"instance":"10.0.%d.%d:8080","severity":"warning"},'
        .. '"annotations":{"summary":"errors above 5 percent on svc-%d"},"startsAt":"%s",'
        .. '"generatorURL":"http://prometheus.example/graph"}',
      service, math.floor(instance / 250), instance % 250, service, now)
  end
  bodies[body] = "[" .. table.concat(alerts, ",") .. "]"
end

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local at = 0
function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end

function done(summary, latency)
  io.write(string.format("RESULT %d %d %d %.1f %.1f\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.write + summary.errors.connect,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
