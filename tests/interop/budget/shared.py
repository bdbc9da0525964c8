"""Two gateways that share budgets and kept results through one real Redis.

Called by ../shared.py, which owns the Redis.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.append(str(Path(__file__).parent.parent))
from checks import Checks, connected, text

KEY = "rmcp-layers/budget"
USABLE = 50_000
SERVER = Path(__file__).parent / "results.py"


def config(redis_port: int) -> str:
    return (
        f'[servers.results]\ncommand = "{sys.executable}"\nargs = ["{SERVER}"]\n'
        f'[budget]\ntotal_tokens = {USABLE}\nreserved_for_response = 0\nreserved_for_system = 0\nmax_fraction = 0.4\n'
        f'conversation_header = "x-conversation"\nredis = "redis://127.0.0.1:{redis_port}"\n'
    )


@asynccontextmanager
async def client(url: str, conversation: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(timeout=30, headers={"x-conversation": conversation}) as http:
        async with connected(streamable_http_client(url, http_client=http), "2026-07-28") as client:
            yield client


async def race(one: Client, two: Client) -> None:
    charged: list[int] = []

    async def call(client: Client) -> None:
        result = await client.call_tool("lines", {})
        says = (result.meta or {}).get(KEY)
        if says:
            charged.append(says["charged"])
        else:
            assert result.is_error and "used up" in text(result), text(result)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(call, one)
            group.start_soon(call, two)
    assert 0 < sum(charged) <= USABLE, charged


async def rest(one: Client, two: Client) -> None:
    cut = (await one.call_tool("lines", {})).meta[KEY]
    page = await two.call_tool("read_result", {"id": cut["cut"]["id"], "search": "line 9999:"})
    assert "line 9999:" in page.content[0].text, page
    says = page.meta[KEY]
    assert says["left"] == cut["left"] - says["charged"] == USABLE - cut["charged"] - says["charged"], says


async def run(checks: Checks, start: Callable[[str], AbstractContextManager[str]]) -> None:
    with start("budget-one") as first, start("budget-two") as second:
        async with client(first, "race") as one, client(second, "race") as two:
            await checks.check("gateways that race never overspend", lambda: race(one, two))
        async with client(first, "rest") as one, client(second, "rest") as two:
            await checks.check("a result that one gateway has cut the other reads", lambda: rest(one, two))
