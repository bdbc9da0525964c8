"""A server whose tools have results of every kind, each far too long: JSON-RPC over stdio, no SDK.

With `ITEMS` in their names, tools list an output schema. No cut of `exact_ITEMS` is valid by its own.
"""

import base64
import json
import sys

ITEMS = [{"id": number, "name": f"item number {number}", "note": "long " * 20} for number in range(4_000)]
LINES = "".join(f"line {number}: the quick brown fox — über ß 日本\n" for number in range(10_000))
SOME = {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object"}}}, "required": ["items"]}
EXACT = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "minItems": 4_000, "items": {"required": ["id", "name", "note"], "properties": {
            "name": {"type": "string", "pattern": "^item"}, "note": {"type": "string", "minLength": 100},
        }}},
    },
    "required": ["items"],
}


def text(text: str) -> dict:
    return {"type": "text", "text": text}


def blob(uri: str) -> dict:
    data = base64.b64encode(bytes(range(256)) * 2_000).decode()
    return {"type": "resource", "resource": {"uri": uri, "mimeType": "application/octet-stream", "blob": data}}


STRUCTURED = {"items": ITEMS}
RESULTS = {
    "lines": {"content": [text(LINES)]},
    "json": {"content": [text(json.dumps(STRUCTURED, indent=2))]},
    "structured": {"content": [text(json.dumps(STRUCTURED))], "structuredContent": STRUCTURED},
    "alone": {"content": [], "structuredContent": STRUCTURED},
    "some_ITEMS": {"content": [text(json.dumps(STRUCTURED))], "structuredContent": STRUCTURED},
    "summary_ITEMS": {"content": [text("4000 items")], "structuredContent": STRUCTURED},
    "exact_ITEMS": {"content": [text(json.dumps(STRUCTURED))], "structuredContent": STRUCTURED},
    "blobs": {"content": [text(LINES[:1_000]), blob("file:///a"), blob("file:///b")]},
    "many": {"content": [text(f"block {number} " * 50) for number in range(500)]},
    "failed": {"content": [text(LINES)], "isError": True},
}


def tool(name: str) -> dict:
    listed = {"name": name, "description": f"Returns {name}", "inputSchema": {"type": "object"}}
    if name.endswith("ITEMS"):
        listed["outputSchema"] = EXACT if name.startswith("exact") else SOME
    return listed


def answer(method: str, params: dict) -> dict | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "resources": {}},
                "serverInfo": {"name": "results", "version": "1"},
            }
        case "tools/list":
            return {"tools": [tool(name) for name in RESULTS]}
        case "tools/call":
            return RESULTS[params["name"]]
        case "resources/read":
            return {"contents": [{"uri": params["uri"], "mimeType": "text/plain", "text": LINES}]}
        case "resources/list":
            return {"resources": []}
        case "ping":
            return {}
    return None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        result = answer(message["method"], message.get("params", {}))
        said = {"result": result} if result is not None else {"error": {"code": -32601, "message": "not found"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)


if __name__ == "__main__":
    main()
