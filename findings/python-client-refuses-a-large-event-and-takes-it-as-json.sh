#!/usr/bin/env bash
# The Python client refuses a result of more than 1 MiB as a server-sent event, and takes the same result as JSON.
#
# Specification (2025-11-25, basic/transports): a server answers a POST with either application/json or
# text/event-stream, and the client supports both. No size is named.
# Seen: mcp 2.3.0 fails the call with "Server-sent event exceeded the 1048576 byte limit." for the event, and
# returns the 1,200,000 characters of the JSON body.
# Consequence: a server or proxy that streams every answer loses large results for this client.
#
# Needs python3 (3.10 or newer) and pip. Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip install --quiet mcp==2.3.0

cat >try.py <<'PY'
import asyncio, json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mcp import Client

class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self): self.answer(405)
    def do_DELETE(self): self.answer(405)

    def answer(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in request:
            return self.answer(202)
        method, message = request["method"], {"jsonrpc": "2.0", "id": request["id"]}
        if method == "initialize":
            message["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                                 "serverInfo": {"name": "large", "version": "1"}}
        elif method == "tools/list":
            message["result"] = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("json", "event")]}
        elif method == "tools/call":
            message["result"] = {"content": [{"type": "text", "text": "x" * 1_200_000}]}
        else:
            message["error"] = {"code": -32601, "message": "Method not found"}
        body = json.dumps(message).encode()
        if method == "tools/call" and request["params"]["name"] == "event":
            return self.answer(200, b"event: message\ndata: " + body + b"\n\n", "text/event-stream")
        self.answer(200, body)

async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = {}
    async with Client(f"http://127.0.0.1:{server.server_port}/mcp") as client:
        for name in ("json", "event"):
            try:
                result = await asyncio.wait_for(client.call_tool(name, {}), 30)
                seen[name] = len(result.content[0].text)
            except Exception as error:
                seen[name] = str(error)
    print(seen)
    assert seen["json"] == 1_200_000
    assert "exceeded the 1048576 byte limit" in str(seen["event"])

asyncio.run(main())
PY
py/bin/python try.py
echo "as described"
