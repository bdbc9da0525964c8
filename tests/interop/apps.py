"""An MCP App's server beside another, behind one gateway: what its tool names is found.

apps.py http MODE URL | apps.py stdio MODE GATEWAY CONFIG: MODE is legacy or 2026-07-28.
"""

import sys

import anyio
from checks import Checks, connected
from mcp import Client, StdioServerParameters

ARGUMENTS = {"west": 10, "south": 59, "east": 11, "north": 60}


async def checked(checks: Checks, client: Client) -> None:
    async def page() -> str:
        """The URI that a host reads to show the tool's results."""
        [tool] = [
            tool for tool in (await client.list_tools()).tools if tool.name.endswith("show-map")
        ]
        uri = tool.meta["ui"]["resourceUri"]
        assert uri.startswith("ui://"), tool
        return uri

    async def read() -> None:
        uri = await page()
        [content] = (await client.read_resource(uri)).contents
        assert content.uri == uri, content.uri
        assert content.mime_type == "text/html;profile=mcp-app", content.mime_type
        assert "<html" in content.text

    async def listed() -> None:
        uris = [resource.uri for resource in (await client.list_resources()).resources]
        assert await page() in uris, uris

    async def prefixed() -> None:
        result = await client.call_tool("map__show-map", ARGUMENTS)
        assert not result.is_error, result

    async def bare() -> None:
        # The app in the page knows its server's tools by their own names.
        result = await client.call_tool("show-map", ARGUMENTS)
        assert not result.is_error, result

    await checks.check("the page is read as its tool names it", read)
    await checks.check("the page is listed as its tool names it", listed)
    await checks.check("its tool is called by the listed name", prefixed)
    await checks.check("its tool is called by its own name", bare)


async def main(kind: str, mode: str, where: list[str]) -> int:
    checks = Checks(f"app {kind} {mode}")
    server = where[0]
    if kind == "stdio":
        server = StdioServerParameters(command=where[0], args=["--stdio", "--config", where[1]])
    try:
        async with connected(server, mode) as client:
            await checked(checks, client)
    except Exception as error:
        checks.fail("connection", error)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    kind, mode, *where = sys.argv[1:]
    sys.exit(anyio.run(main, kind, mode, where))
