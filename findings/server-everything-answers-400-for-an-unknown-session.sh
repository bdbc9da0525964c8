#!/usr/bin/env bash
# The reference server answers a request of an unknown session with 400, not with 404.
#
# Specification (2025-11-25, basic/transports, session management): a server responds with 404 to requests of a
# session it has terminated, and 404 is what tells a client to begin a new session. 400 is for a missing id.
# Seen: @modelcontextprotocol/server-everything 2026.8.31 over streamable HTTP answers a restarted server's old
# session id with 400 and the JSON-RPC error -32000 "Bad Request: No valid session ID provided", without an id.
# Consequence: a client or proxy that waits for 404 uses the dead session for ever.
#
# Needs node 20 or newer, npm and curl. Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

npm init --yes >/dev/null
npm install --silent --no-fund @modelcontextprotocol/server-everything@2026.8.31

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')

start() {
  PORT=$port node node_modules/@modelcontextprotocol/server-everything/dist/index.js streamableHttp >/dev/null 2>&1 &
  server=$!
  for _ in $(seq 100); do
    curl --silent --output /dev/null "http://127.0.0.1:$port/mcp" && return
    sleep 0.1
  done
  echo "the server did not start" >&2
  return 1
}

post() {
  curl --silent --max-time 20 --header 'Content-Type: application/json' \
    --header 'Accept: application/json, text/event-stream' "$@" "http://127.0.0.1:$port/mcp"
}

start
post --dump-header head --output /dev/null --data '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"client","version":"1"}}}'
session=$(sed -n 's/^mcp-session-id: *\([^\r]*\).*/\1/Ip' head)
[[ -n $session ]]
kill "$server"
wait "$server" 2>/dev/null || true
start
seen=$(post --header "Mcp-Session-Id: $session" --write-out ' %{http_code}' \
  --data '{"jsonrpc":"2.0","id":2,"method":"tools/list"}')
echo "$seen"
[[ $seen == *' 400' && $seen != *'"id"'* && $seen == *'No valid session ID provided'* ]]
echo "as described"
