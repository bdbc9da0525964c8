"""The official Python client runs plans that take longer than it waits for an answer.

clients.py http URL | clients.py stdio SERVER
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import anyio
from checks import Checks, connected, text
from mcp import Client, MCPError, StdioServerParameters

# The client's own limit for an answer, and tasks that take longer together.
TIMEOUT_S = 3
TASKS = [
    {"id": "a", "description": "1500"},
    {"id": "b", "description": "1500", "after": ["a"]},
    {"id": "c", "description": "1500", "after": ["b"]},
]


async def plans(checks: Checks, client: Client) -> None:
    async def tools() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        own = ["delegate_task", "run_plan", "task_status", "cancel_task", "answer_task", "list_agents"]
        assert names[-len(own) :] == own, names

    async def too_long() -> None:
        try:
            await client.call_tool("run_plan", {"tasks": TASKS})
        except MCPError as error:
            assert "timed out" in str(error).lower(), error
        else:
            raise AssertionError("the client waited for longer than its limit")

    async def longer_than_the_timeout() -> None:
        seen: list[float] = []

        async def progress(done: float, total: float | None, _message: str | None) -> None:
            assert total == 3, total
            seen.append(done)

        arguments = {"tasks": TASKS, "wait_s": 2}
        result = await client.call_tool("run_plan", arguments, progress_callback=progress)
        state = result.structured_content
        assert state["state"] == "running", state
        assert "task_status" in text(result)
        asked = 0
        while state["state"] == "running":
            arguments = {"plan": state["plan"], "wait_s": 2, "until": "end"}
            state = (await client.call_tool("task_status", arguments)).structured_content
            asked += 1
        assert (state["state"], state["done"]) == ("complete", 3), state
        assert [task["answer"] for task in state["tasks"]] == ["slept 1500 ms"] * 3, state
        assert 1 <= asked <= 3, asked
        assert seen == sorted(set(seen)) and seen[-1] == 1, seen

    async def a_task() -> None:
        result = await client.call_tool("delegate_task", {"description": "10", "capability": "sleep"})
        assert text(result) == "slept 10 ms", result

    async def a_failure() -> None:
        arguments = {"description": "soon", "retries": 0}
        result = await client.call_tool("delegate_task", arguments)
        assert result.is_error and "not a number" in text(result), result

    for step in (tools, too_long, longer_than_the_timeout, a_task, a_failure):
        await checks.check(step.__name__.replace("_", " "), step)


async def main(transport: str, where: str) -> None:
    for mode in ("legacy", "auto"):
        server = where if transport == "http" else StdioServerParameters(command=where, args=["--stdio"])
        checks = Checks(f"python {transport} {mode}")
        try:
            async with connected(server, mode, read_timeout_seconds=TIMEOUT_S) as client:
                await plans(checks, client)
        except Exception as error:
            checks.fail("connects", error)


anyio.run(main, *sys.argv[1:])
