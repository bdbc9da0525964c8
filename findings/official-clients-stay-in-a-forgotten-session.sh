#!/usr/bin/env bash
# Official clients keep a session that the server has forgotten, and never begin another.
#
# Specification (2025-11-25, basic/transports, session management): a client that receives 404 for a request
# with an Mcp-Session-Id MUST start a new session by a new InitializeRequest without a session id.
# Seen: Python mcp 2.3.0, @modelcontextprotocol/sdk 1.32.2 and @modelcontextprotocol/client 2.4.0 send one
# InitializeRequest, and after the first 404 every later call fails, also seconds later.
# Consequence: a server restart ends each open session for good, unless sessions outlive the process.
#
# Needs python3 (3.10 or newer), node 20 or newer, npm and pip. Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip install --quiet mcp==2.3.0
npm init --yes >/dev/null
npm install --silent --no-fund @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0

cat >server.py <<'PY'
import json, sys, threading, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sessions, counts = set(), {"initialize": 0, "refused": 0}

class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self): self.answer(405)
    def do_DELETE(self): self.answer(405)

    def answer(self, status, message=None, session=None):
        body = b"" if message is None else json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.send_response(status)
        if session: self.send_header("Mcp-Session-Id", session)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number, method = request.get("id"), request["method"]
        if method == "server/discover":
            return self.answer(200, {"id": number, "error": {"code": -32601, "message": "Method not found"}})
        if method == "initialize":
            counts["initialize"] += 1
            session = uuid.uuid4().hex
            sessions.add(session)
            about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                     "serverInfo": {"name": "forgetful", "version": "1"}}
            return self.answer(200, {"id": number, "result": about}, session)
        if self.headers.get("Mcp-Session-Id") not in sessions:
            counts["refused"] += 1
            return self.answer(404, {"id": number, "error": {"code": -32001, "message": "Session not found"}})
        if number is None:
            return self.answer(202)
        if method == "tools/list":
            return self.answer(200, {"id": number, "result": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}})
        self.answer(200, {"id": number, "result": {"content": [{"type": "text", "text": "ok"}]}})

server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
for line in sys.stdin:
    if line.strip() == "forget":
        sessions.clear()
    print(json.dumps(counts), flush=True)
PY

cat >client.py <<'PY'
import asyncio, sys
from mcp import Client

async def main():
    async with Client(sys.argv[1]) as client:
        print((await client.call_tool("t", {})).content[0].text, flush=True)
        sys.stdin.readline()
        for _ in range(3):
            try:
                await asyncio.wait_for(client.call_tool("t", {}), 20)
                print("ok", flush=True)
            except Exception:
                print("failed", flush=True)
            await asyncio.sleep(1)

asyncio.run(main())
PY

client_js() { cat <<JS
import { createInterface } from "node:readline/promises";
$1
const client = new Client({ name: "client", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
const call = () => client.callTool({ name: "t", arguments: {} }, undefined, { timeout: 20000 });
console.log((await call()).content[0].text);
await createInterface({ input: process.stdin }).question("");
for (let i = 0; i < 3; i++) {
  await call().then(() => console.log("ok"), () => console.log("failed"));
  await new Promise((done) => setTimeout(done, 1000));
}
process.exit();
JS
}
client_js 'import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";' >v1.mjs
client_js 'import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";' >v2.mjs

# try NAME COMMAND...: one call, the server forgets, three more calls.
try() {
  local name=$1 port said line seen=()
  shift
  coproc SERVER { python3 server.py; }
  local server=$SERVER_PID to=${SERVER[1]} from=${SERVER[0]}
  read -r port <&"$from"
  mkfifo "$name.in"
  timeout 90 "$@" "http://127.0.0.1:$port/mcp" <"$name.in" >"$name.out" 2>/dev/null &
  local client=$!
  exec {go}>"$name.in"
  until [[ -s $name.out ]]; do kill -0 "$client"; sleep 0.1; done
  echo forget >&"$to"
  read -r said <&"$from"
  echo >&"$go"
  exec {go}>&-
  wait "$client" || true
  echo count >&"$to"
  read -r said <&"$from"
  kill "$server"
  wait "$server" 2>/dev/null || true
  seen=$(tr '\n' ' ' <"$name.out")
  echo "$name: calls: $seen server: $said"
  [[ $seen == "ok failed failed failed " && $said == '{"initialize": 1, '* ]]
}

try python-mcp-2.3.0 py/bin/python client.py
try typescript-sdk-1.32.2 node v1.mjs
try typescript-client-2.4.0 node v2.mjs
echo "as described"
