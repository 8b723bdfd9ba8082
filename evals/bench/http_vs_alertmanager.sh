#!/usr/bin/env bash
# Alerts per second over HTTP: midwatch (durable before it answers) beside Alertmanager (in memory), with
# the same client, the same bodies and the same path, one after the other and again.
#
# usage: http_vs_alertmanager.sh MIDWATCH [SECONDS] [CONNECTIONS]
# needs: wrk, prometheus-alertmanager, curl
set -euo pipefail
midwatch=$(realpath "$1") seconds=${2:-15} connections=${3:-64}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
await() { for _ in {1..200}; do curl -fsS "$1" >/dev/null 2>&1 && return; sleep 0.1; done; echo "$1 does not answer" >&2; exit 1; }
resident() { awk '/VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$1/status"; }

measure() { # NAME PORT PROCESS
  local requests micros errors median p99
  read -r _ requests micros errors median p99 < <(
    wrk -t1 -c"$connections" -d"${seconds}s" -s "$here/alerts.lua" "http://127.0.0.1:$2/api/v2/alerts" | grep RESULT)
  awk -v name="$1" -v requests="$requests" -v micros="$micros" -v errors="$errors" -v median="$median" -v p99="$p99" \
    -v memory="$(resident "$3")" 'BEGIN { printf "%-14s %9.0f alerts/s  not accepted %5d  p50 %6.1f ms  p99 %7.1f ms  resident %4d MB\n",
      name, (requests - errors) * 64 / (micros / 1e6), errors, median, p99, memory }'
  accepted=$((requests - errors))
}

for round in 1 2; do
  port=$(free_port)
  printf 'route: { receiver: none }\nreceivers: [{ name: none }]\n' >"$folder/alertmanager.yml"
  prometheus-alertmanager --config.file="$folder/alertmanager.yml" --storage.path="$folder/am-$round" \
    --web.listen-address="127.0.0.1:$port" --cluster.listen-address= --log.level=error >"$folder/am.log" 2>&1 &
  alertmanager=$!
  processes+=("$alertmanager")
  await "http://127.0.0.1:$port/-/ready"
  measure alertmanager "$port" "$alertmanager"
  kill "$alertmanager" && wait "$alertmanager" 2>/dev/null || true

  port=$(free_port)
  printf '[server]\nlisten = "127.0.0.1:%s"\n[console]\nenabled = false\n[store]\ndata_dir = "%s"\n' \
    "$port" "$folder/data-$round" >"$folder/midwatch.toml"
  "$midwatch" serve --config "$folder/midwatch.toml" >"$folder/midwatch.log" 2>&1 &
  watch=$!
  processes+=("$watch")
  await "http://127.0.0.1:$port/readyz"
  measure midwatch "$port" "$watch"
  # What was accepted is judged and stored, all of it.
  judged=0
  for _ in {1..600}; do
    judged=$(curl -fsS "http://127.0.0.1:$port/metrics" | awk '/^midwatch_alerts_judged\{/ { sum += $2 } END { printf "%d", sum }')
    ((judged >= accepted * 64)) && break
    sleep 0.1
  done
  echo "               accepted $((accepted * 64)), judged and stored $judged, on disk $(du -sm "$folder/data-$round" | cut -f1) MB"
  kill "$watch" && wait "$watch" 2>/dev/null || true
done
