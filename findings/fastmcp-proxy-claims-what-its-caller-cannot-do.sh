#!/usr/bin/env bash
# FastMCP's proxy tells a server that the client can sample, elicit and list roots, whatever the client declared.
#
# Specification (2025-11-25, lifecycle): both sides use only the capabilities that were negotiated; a server decides by
# the client's capabilities whether it may ask.
# Seen: behind fastmcp 4.2.3 (create_proxy over a stdio server) a caller that declares no capability at all is
# announced to the server with sampling, elicitation (form and url) and roots. A tool that asks such a client a question
# is answered by the error -32603 in the middle of its work, where the bare client would have had the tool's
# fallback.
#
# Needs python3 (3.10 or newer) and pip. Exits 0 if the behaviour is as described.
set -euo pipefail
work=$(mktemp -d)
proxy=
trap '[[ -z $proxy ]] || kill "$proxy" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip install --quiet fastmcp==4.2.3

cat >server.py <<'PY'
import json, sys

def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

client, waiting = {}, None
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method is None:
        answer = message.get("result") or message.get("error")
        send({"id": waiting, "result": {"content": [{"type": "text", "text": "asked: " + json.dumps(answer)}]}})
    elif method == "initialize":
        client = message["params"]["capabilities"]
        send({"id": number, "result": {"protocolVersion": message["params"]["protocolVersion"],
              "capabilities": {"tools": {}}, "serverInfo": {"name": "asking", "version": "1"}}})
    elif method == "tools/list":
        send({"id": number, "result": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("can", "ask")]}})
    elif method == "tools/call" and message["params"]["name"] == "can":
        send({"id": number, "result": {"content": [{"type": "text", "text": json.dumps(sorted(client))}]}})
    elif method == "tools/call":
        if "elicitation" not in client:
            send({"id": number, "result": {"content": [{"type": "text", "text": "went on without a question"}]}})
            continue
        waiting = number
        send({"id": 1000, "method": "elicitation/create", "params": {"message": "Which one?",
              "requestedSchema": {"type": "object", "properties": {"which": {"type": "string"}}}}})
    elif number is not None:
        send({"id": number, "result": {}})
PY

cat >proxy.py <<'PY'
import sys
from fastmcp.server.server import create_proxy

servers = {"mcpServers": {"asking": {"command": sys.executable, "args": ["server.py"]}}}
create_proxy(servers).run(transport="stdio", show_banner=False)
PY

cat >caller.py <<'PY'
import json, subprocess, sys

def drive(*command):
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def send(message):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()

    def ask(number, method, params):
        send({"id": number, "method": method, "params": params})
        for line in process.stdout:
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return message
            if "id" in message:
                send({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})

    ask(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "caller", "version": "1"}})
    send({"method": "notifications/initialized"})
    said = [ask(number, "tools/call", {"name": name, "arguments": {}})["result"]["content"][0]["text"]
            for number, name in ((2, "can"), (3, "ask"))]
    process.kill()
    process.wait()
    return said

bare = drive(sys.executable, "server.py")
proxied = drive("py/bin/python", "proxy.py")
print("bare:   ", bare)
print("proxied:", proxied)
assert bare == ["[]", "went on without a question"]
assert json.loads(proxied[0]) == ["elicitation", "roots", "sampling"]
assert proxied[1] != bare[1]
PY
timeout 120 python3 caller.py
echo "as described"
