#!/usr/bin/env bash
# The Python client fails a tools/call that succeeded, if the tools/list it sends afterwards by itself fails.
#
# A tools/call of a tool that the client has not listed makes mcp 2.3.0 send tools/list when the result is here, to
# check the result against an output schema. If that list is answered with an error, call_tool raises the list's error:
# the caller is told of a failure though the tool ran and its result arrived. The TypeScript clients (sdk 1.32.2,
# client 2.4.0) send no list and return the result.
# Consequence: an application or a proxy that repeats failed calls runs such a tool again.
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
import json, sys

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    method, message = request["method"], {"jsonrpc": "2.0", "id": request["id"]}
    print(method, file=open("log", "a"))
    if method == "initialize":
        message["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                             "serverInfo": {"name": "listless", "version": "1"}}
    elif method == "tools/call":
        message["result"] = {"content": [{"type": "text", "text": "paid"}]}
    elif method == "tools/list":
        message["error"] = {"code": -32603, "message": "the catalogue is being rebuilt"}
    else:
        message["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(message), flush=True)
PY

cat >client.py <<'PY'
import asyncio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    server = stdio_client(StdioServerParameters(command="python3", args=["server.py"]))
    async with Client(server) as client:
        try:
            print((await client.call_tool("pay", {})).content[0].text)
        except Exception as error:
            print("failed:", error)

asyncio.run(main())
PY

client_js() { cat <<JS
$1
const client = new Client({ name: "client", version: "1" });
await client.connect(new StdioClientTransport({ command: "python3", args: ["server.py"] }));
await client.callTool({ name: "pay", arguments: {} }).then(
  (result) => console.log(result.content[0].text), (error) => console.log("failed:", error.message));
await client.close();
JS
}
client_js 'import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";' >v1.mjs
client_js 'import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";' >v2.mjs

# try EXPECTED-ANSWER EXPECTED-LISTS COMMAND...
try() {
  local answer=$1 lists=$2 seen listed
  shift 2
  rm -f log
  seen=$(timeout 60 "$@" 2>/dev/null)
  listed=$(grep -c tools/list log || true)
  echo "$*: $seen (calls: $(grep -c tools/call log), lists: $listed)"
  [[ $seen == "$answer" && $listed == "$lists" && $(grep -c tools/call log) == 1 ]]
}

try "failed: the catalogue is being rebuilt" 1 py/bin/python client.py
try paid 0 node v1.mjs
try paid 0 node v2.mjs
echo "as described"
