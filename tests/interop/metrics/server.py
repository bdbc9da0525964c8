"""A server whose spans go to the collector that the environment names."""

from mcp.server.mcpserver import MCPServer
from telemetry import send_spans

server = MCPServer("python")


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def fail() -> str:
    raise ValueError("disk full")


send_spans("python-upstream")
server.run("stdio")
