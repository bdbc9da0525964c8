"""A gateway that is told to stop while calls are in flight.

shutdown.py GATEWAY SCRATCH NODE EVERYTHING

NODE runs EVERYTHING, the entry point of server-everything.
"""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio.streams.text import TextReceiveStream
from checks import Checks, connected, text
from mcp import Client
from processes import below

CALLS = 8
LONG = "trigger-long-running-operation"


class Lines:
    """The lines of a process's standard output."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.pieces, self.rest = TextReceiveStream(process.stdout), ""

    async def next(self) -> str:
        while "\n" not in self.rest:
            self.rest += await self.pieces.receive()
        line, self.rest = self.rest.split("\n", 1)
        return line


@asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[tuple[anyio.abc.Process, Lines]]:
    process = await anyio.open_process(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process, Lines(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def served(command: list[str]) -> AsyncIterator[tuple[anyio.abc.Process, str]]:
    async with running([*command, "--listen", "127.0.0.1:0"]) as (process, lines):
        while "listening on " not in (line := await lines.next()):
            pass
        yield process, line.split("listening on ")[1].split()[0]


async def interrupted(
    url: str, mode: str, tool: str, arguments: dict[str, object], calls: int, then: Callable[[], None]
) -> list[str]:
    """Runs calls, does something once all have begun, and returns how each ended."""
    ends = ["not begun"] * calls
    # There may be nobody left to say goodbye to.
    with suppress(Exception):
        async with connected(url, mode) as client:
            await client.list_tools()
            await interrupt(client, tool, arguments, ends, then)
    return ends


async def interrupt(
    client: Client, tool: str, arguments: dict[str, object], ends: list[str], then: Callable[[], None]
) -> None:
    begun: set[int] = set()

    async def call(index: int) -> None:
        async def progress(_done: float, _total: float | None, _message: str | None) -> None:
            if index not in begun:
                begun.add(index)
                if len(begun) == len(ends):
                    then()

        try:
            result = await client.call_tool(tool, arguments, progress_callback=progress)
            ends[index] = f"result: {text(result)}"
        except Exception as error:  # noqa: BLE001 # However it ends, it is told.
            ends[index] = f"error: {error}"

    async with anyio.create_task_group() as group:
        for index in range(len(ends)):
            group.start_soon(call, index)


async def answers_are_sent(gateway: str, mode: str) -> None:
    async with served([gateway]) as (process, url):

        def stop() -> None:
            process.send_signal(signal.SIGINT)

        ends = await interrupted(url, mode, "count", {"steps": 6, "delay_ms": 100}, CALLS, stop)
        assert all(end.startswith("result: ") for end in ends), ends
        with anyio.fail_after(10):
            assert await process.wait() == 0, process.returncode


async def too_long_a_call(config: Path, gateway: str) -> None:
    async with served([gateway, "--config", str(config)]) as (process, url):
        children: set[int] = set()

        def stop() -> None:
            children.update(below(process.pid))
            process.send_signal(signal.SIGTERM)

        # Calls may go on for 5 s.
        with anyio.fail_after(15):
            ends = await interrupted(url, "2026-07-28", LONG, {"duration": 60, "steps": 600}, 1, stop)
            assert ends[0].startswith("error: "), ends
            assert await process.wait() == 0, process.returncode
        assert children and not any(Path(f"/proc/{child}").exists() for child in children), children


async def told_twice(gateway: str) -> None:
    async with served([gateway]) as (process, url):

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)

        # Told once, it would wait 5 s for the call.
        with anyio.fail_after(4):
            ends = await interrupted(url, "2026-07-28", "count", {"steps": 600, "delay_ms": 100}, 1, stop)
            assert ends[0].startswith("error: "), ends
            await process.wait()


async def over_stdio(gateway: str) -> None:
    async with running([gateway, "--stdio"]) as (process, lines):

        async def send(**message: object) -> None:
            await process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

        about = {"clientInfo": {"name": "interop", "version": "0"}, "capabilities": {}}
        await send(id=0, method="initialize", params={**about, "protocolVersion": "2025-11-25"})
        assert "result" in json.loads(await lines.next())
        await send(method="notifications/initialized")
        call = {"name": "count", "arguments": {"steps": 6, "delay_ms": 100}, "_meta": {"progressToken": 7}}
        await send(id=1, method="tools/call", params=call)
        steps = 0
        while "id" not in (message := json.loads(await lines.next())):
            is_step = message["method"] == "notifications/progress"
            steps += is_step
            # Once: a second signal would end it at once.
            if is_step and steps == 1:
                process.send_signal(signal.SIGTERM)
        assert steps == 6 and "result" in message, (steps, message)
        with anyio.fail_after(10):
            assert await process.wait() == 0, process.returncode


async def main(gateway: str, scratch: str, node: str, everything: str) -> bool:
    checks = Checks("shutdown")
    config = Path(scratch) / "shutdown.toml"
    config.write_text(f'[servers.everything]\ncommand = "{node}"\nargs = ["{everything}", "stdio"]\n')
    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "legacy answers of calls in flight are sent": lambda: answers_are_sent(gateway, "legacy"),
        "2026-07-28 answers of calls in flight are sent": lambda: answers_are_sent(gateway, "2026-07-28"),
        "stdio the answer of a call in flight is sent": lambda: over_stdio(gateway),
        "too long a call is ended and its server with it": lambda: too_long_a_call(config, gateway),
        "told twice it ends at once": lambda: told_twice(gateway),
    }
    for name, step in steps.items():
        await checks.check(name, step)
    return checks.failed


sys.exit(anyio.run(main, *sys.argv[1:]))
