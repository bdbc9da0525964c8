"""The everything server over HTTP, restarted while clients of the gateway have sessions.

restart.py MODE URL PORT COMMAND...

MODE is legacy or 2026-07-28; URL, the gateway's; PORT, where the gateway looks for the server; and
COMMAND starts the server there.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from checks import LIMIT, Checks, connected, text
from mcp import Client


@asynccontextmanager
async def everything(command: list[str], port: int) -> AsyncIterator[None]:
    environment = {**os.environ, "PORT": str(port)}
    process = await anyio.open_process(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with anyio.fail_after(LIMIT):
            while True:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.05)
        yield
    finally:
        # Killed, so that it ends no session.
        process.kill()
        await process.wait()


async def echoes(client: Client) -> None:
    assert "tea" in text(await client.call_tool("echo", {"message": "tea"}))


async def restarted(checks: Checks, mode: str, url: str, port: int, command: list[str]) -> None:
    async with AsyncExitStack() as stack:
        async with everything(command, port):
            old = await stack.enter_async_context(connected(url, mode))
            await checks.check("a call before", lambda: echoes(old))
        async with everything(command, port):
            await checks.check("an old client's next call", lambda: echoes(old))
            async with connected(url, mode) as new:
                await checks.check("a new client's call", lambda: echoes(new))
            await checks.check("an old client's last call", lambda: echoes(old))


async def main(mode: str, url: str, port: int, command: list[str]) -> int:
    checks = Checks(f"restarted {mode}")
    try:
        await restarted(checks, mode, url, port, command)
    except Exception as error:
        checks.fail("connection", error)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    mode, url, port, *command = sys.argv[1:]
    sys.exit(anyio.run(main, mode, url, int(port), command))
