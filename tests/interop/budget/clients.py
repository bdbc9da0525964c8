"""The official Python client and FastMCP's in front of a gateway with `[budget]`.

clients.py URL MISFIT, where MISFIT is the gateway's `on_schema_misfit`.

The gateway cuts every result to 10,000 tokens. Both clients check results against the output schemas of
the tools.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from fastmcp import Client as FastClient
from mcp import Client
from results import LINES, RESULTS

sys.path.append(str(Path(__file__).parent.parent))
from checks import Checks, connected, text

KEY = "rmcp-layers/budget"
SHARE = 10_000

Call = Callable[..., Awaitable[object]]


async def cuts(checks: Checks, call: Call, misfit: str) -> None:
    for name in RESULTS:
        async def is_accepted(name: str = name) -> None:
            result = await call(name)
            says = result.meta[KEY]
            is_error = name == "failed" or (name == "exact_ITEMS" and misfit == "tool_error")
            assert bool(result.is_error) == is_error, text(result)[:300]
            if name == "failed":
                assert text(result) == LINES
                return
            assert says["cut"] and says["charged"] <= SHARE, says
            if name == "json":
                assert 0 < len(json.loads(result.content[0].text)["items"]) < 4_000
            if result.structured_content is not None:
                assert 0 < len(result.structured_content["items"]) < 4_000

        await checks.check(f"accepts {name}", is_accepted)


async def rest(checks: Checks, client: Client) -> None:
    async def pages() -> None:
        cut = await client.call_tool("lines", {})
        arguments, found = {"id": cut.meta[KEY]["cut"]["id"]}, ""
        while arguments:
            page = await client.call_tool("read_result", arguments)
            assert not page.is_error, text(page)
            found += page.content[0].text
            arguments = page.meta[KEY]["page"].get("next")
        assert found == LINES, len(found)

    async def link() -> None:
        cut = await client.call_tool("lines", {})
        uri, found = next(block.uri for block in cut.content if block.type == "resource_link"), ""
        while uri:
            contents = (await client.read_resource(uri)).contents
            found += contents[0].text
            uri = contents[1].uri if len(contents) > 1 else None
        assert found == LINES, len(found)

    async def resource() -> None:
        read = await client.read_resource("file:///lines")
        assert len(read.contents[0].text) < len(LINES), read.meta

    for step in (pages, link, resource):
        await checks.check(step.__name__, step)


async def main(url: str, misfit: str) -> int:
    failed = False
    for mode in ("legacy", "2026-07-28"):
        checks = Checks(f"budget {misfit} python {mode}")
        try:
            async with connected(url, mode) as client:
                await cuts(checks, lambda name, client=client: client.call_tool(name, {}), misfit)
                await rest(checks, client)
        except Exception as error:
            checks.fail("connection", error)
        failed |= checks.failed
    checks = Checks(f"budget {misfit} fastmcp")
    try:
        async with FastClient(url) as fast:
            await cuts(checks, lambda name: fast.call_tool(name, {}, raise_on_error=False), misfit)
    except Exception as error:
        checks.fail("connection", error)
    return 1 if failed or checks.failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, *sys.argv[1:]))
