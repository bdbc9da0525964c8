#!/usr/bin/env bash
# mcp-proxy (PyPI) asks a server for progress and drops it, and turns JSON-RPC errors of tools/call into results.
#
# A caller gives a progress token with tools/call; the stdio server behind the proxy sends two progress notifications,
# a log message, and 0.3 s later its answer: a result, or the error -32042 (2025-11-25: URL elicitation required),
# whose data says which URL is needed.
# Seen: mcp-proxy 0.13.0 gives the server a progress token of its own and passes neither progress nor log on. The error
# arrives as a result with isError and the error's message: code and data are gone. supergateway 4.0.0, which passes
# messages on unread, delivers all of it.
# Consequence: a caller whose timeout is extended by progress gives up, and URL elicitation by error cannot work.
#
# Needs python3 (3.10 or newer), node 20 or newer, npm and pip. Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
proxy=
trap '[[ -z $proxy ]] || kill "$proxy" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip install --quiet mcp-proxy==0.13.0
npm init --yes >/dev/null
npm install --silent --no-fund supergateway@4.0.0

cat >server.py <<'PY'
import json, sys, time

def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
    time.sleep(0.3)

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    method, params = request["method"], request.get("params") or {}
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}, "logging": {}},
                  "serverInfo": {"name": "slow", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("slow", "fail")]}
    elif method == "tools/call":
        token = (params.get("_meta") or {}).get("progressToken")
        print("token" if token is not None else "no token", file=open("asked", "w"))
        for done in (1, 2):
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": done, "total": 2}})
        send({"method": "notifications/message", "params": {"level": "error", "data": "half way"}})
        result = {"content": [{"type": "text", "text": "done"}]}
        if params["name"] == "fail":
            data = {"elicitations": [{"mode": "url", "elicitationId": "1", "url": "http://127.0.0.1/", "message": "m"}]}
            send({"id": request["id"], "error": {"code": -32042, "message": "url needed", "data": data}})
            continue
    else:
        result = {}
    send({"id": request["id"], "result": result})
PY

cat >call.py <<'PY'
import http.client, json, sys

port, session = int(sys.argv[1]), None

def post(message):
    global session
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if session:
        headers["Mcp-Session-Id"] = session
    connection.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}), headers)
    response = connection.getresponse()
    session = response.headers.get("Mcp-Session-Id") or session
    return response.read().decode()

post({"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {},
      "clientInfo": {"name": "caller", "version": "1"}}})
post({"method": "notifications/initialized"})
def call(number, name):
    meta = {"progressToken": number}
    return post({"id": number, "method": "tools/call", "params": {"name": name, "arguments": {}, "_meta": meta}})

answer, failure = call(2, "slow"), call(3, "fail")
print("progress", answer.count("notifications/progress"), "logs", answer.count("notifications/message"),
      "result", answer.count('"done"'), "code", failure.count("-32042"), "data", failure.count("elicitationId"),
      "isError", failure.count('"isError":true'))
PY

# through EXPECTED PORT PROXY...
through() {
  local expected=$1 port=$2 seen
  shift 2
  rm -f asked
  "$@" >proxy.log 2>&1 &
  proxy=$!
  for _ in $(seq 150); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.2
  done
  seen=$(python3 call.py "$port")
  kill "$proxy"
  wait "$proxy" 2>/dev/null || true
  echo "$1: $seen; the server was given: $(cat asked)"
  [[ $seen == "$expected" && $(cat asked) == token ]]
}

free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

port=$(free)
through "progress 0 logs 0 result 1 code 0 data 0 isError 1" "$port" py/bin/mcp-proxy --port "$port" -- python3 server.py
port=$(free)
through "progress 2 logs 1 result 1 code 1 data 1 isError 0" "$port" node_modules/.bin/supergateway \
  --stdio "python3 server.py" --outputTransport streamableHttp --stateful --port "$port"
echo "as described"
