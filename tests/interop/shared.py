"""Two gateways in front of a real server each, which share answers and budgets through one real Redis, and
orchestrators that take over each other's plans.

shared.py GATEWAY SCRATCH TIME_SERVER STORE_SUITE DELEGATE_PROCESSES

The server says what time it is. Two gateways that say the same a while apart have shared it.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import plans
from budget import shared as budgets
from checks import Checks, connected, text
from mcp import Client

# The clock's answers differ after this long.
TICK = 1.1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Redis:
    def __init__(self, scratch: Path) -> None:
        self.port, self.scratch = free_port(), scratch
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.scratch)]
        command += ["--save", "", "--appendonly", "no"]
        with open(self.scratch / "redis.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if self.ask("PING") == b"PONG":
                    return
            except (OSError, subprocess.CalledProcessError):
                time.sleep(0.05)
        raise TimeoutError("redis-server does not answer")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, *command: str, stdin: bytes | None = None) -> bytes:
        cli = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), *(["-x"] if stdin else []), *command]
        done = subprocess.run(cli, input=stdin, capture_output=True, check=True, timeout=10)
        return done.stdout.rstrip(b"\n")

    def keys(self, pattern: str) -> list[str]:
        return self.ask("KEYS", pattern).decode().split()


@contextmanager
def gateway(command: str, scratch: Path, name: str, toml: str) -> Iterator[str]:
    config = scratch / f"{name}.toml"
    config.write_text(toml)
    arguments = [command, "--config", str(config), "--listen", "127.0.0.1:0"]
    with open(scratch / f"{name}.log", "wb") as log, running(arguments, stdout=subprocess.PIPE, stderr=log) as process:
        for line in process.stdout:
            if b"listening on http" in line:
                yield line.decode().split("listening on ")[1].split()[0]
                return
        raise RuntimeError(f"gateway {name} did not start: {(scratch / f'{name}.log').read_text()}")


async def now(client: Client, zone: str) -> str:
    return text(await client.call_tool("get_current_time", {"timezone": zone}))


async def same(one: Client, other: Client, zone: str) -> None:
    first = await now(one, zone)
    await anyio.sleep(TICK)
    assert await now(other, zone) == first, "the answer was not shared"


async def same_again(one: Client, other: Client, zones: list[str]) -> None:
    """How soon after a restart depends on when each gateway last failed to connect: a few seconds."""
    for zone in zones[:-1]:
        try:
            return await same(one, other, zone)
        except AssertionError:
            continue
    await same(one, other, zones[-1])


async def different(one: Client, first: str, zone: str) -> None:
    assert await now(one, zone) != first, "the answer was kept"


async def main(command: str, scratch: Path, server: str, suite: str, orchestrator: str) -> bool:
    checks, redis = Checks("shared"), Redis(scratch)
    redis.start()
    try:
        async def promises() -> None:
            done = await anyio.run_process([suite, f"redis://127.0.0.1:{redis.port}"], check=False)
            assert done.returncode == 0, done.stderr.decode()

        await checks.check("a store in Redis keeps the promises of a store", promises)
        await plans.run(checks, orchestrator, f"redis://127.0.0.1:{redis.port}", scratch)
        with ExitStack() as gateways:
            cached = (
                f'[servers.time]\ncommand = "{server}"\nargs = ["--local-timezone", "UTC"]\n'
                f'[cache]\ntools = {{ get_current_time = 600 }}\nredis = "redis://127.0.0.1:{redis.port}"\n'
            )
            start = lambda name: gateways.enter_context(gateway(command, scratch, name, cached))
            async with connected(start("one"), "legacy") as one, connected(start("two"), "legacy") as two:
                await run(checks, redis, one, two)

                async def foreign() -> None:
                    await same_again(one, two, [f"Etc/GMT+{hours}" for hours in range(1, 11)])
                    await same(one, two, "Asia/Tokyo")
                    kept = await now(one, "Asia/Tokyo")
                    for number, key in enumerate(redis.keys("rmcp-layers:a:*")):
                        value = [b"something else", b"rlc2" + os.urandom(200), b"rlc2"][number % 3]
                        redis.ask("SET", key, stdin=value)
                    async with connected(start("three"), "legacy") as three:
                        await different(three, kept, "Asia/Tokyo")

                await checks.check("foreign values are no answers", foreign)
        budget = budgets.config(redis.port)
        await budgets.run(checks, lambda name: gateway(command, scratch, name, budget))
    finally:
        redis.stop()
    return checks.failed


async def run(checks: Checks, redis: Redis, one: Client, two: Client) -> None:
    async def shared() -> None:
        await same(one, two, "Europe/Oslo")
        await same(two, one, "Europe/Paris")
        assert len(redis.keys("rmcp-layers:a:*")) >= 2
        for key in redis.keys("rmcp-layers:a:*"):
            assert 0 < int(redis.ask("PTTL", key)) <= 600_000, key

    async def forgotten() -> None:
        kept = await now(one, "Europe/Oslo")
        redis.ask("SET", "rmcp-layers:g:tools", stdin=os.urandom(16).replace(b"\n", b"."))
        await anyio.sleep(2 * TICK)
        await different(one, kept, "Europe/Oslo")
        await same(one, two, "Europe/Oslo")

    async def outage() -> None:
        kept = await now(one, "Europe/Oslo")
        redis.stop()
        assert await now(one, "Europe/Oslo") == kept
        for client in (one, two):
            for zone in ("Africa/Cairo", "Africa/Lagos", "Africa/Tunis", "America/Lima", "America/Bogota"):
                began = time.monotonic()
                await now(client, zone)
                assert time.monotonic() - began < 1, f"{zone} took {time.monotonic() - began} s"

    async def restarted() -> None:
        redis.start()
        await same_again(one, two, [f"Etc/GMT-{hours}" for hours in range(1, 11)])
        await same(two, one, "Asia/Manila")

    async def burst() -> None:
        async def call(client: Client, zone: str) -> None:
            for _ in range(20):
                await now(client, zone)

        async with anyio.create_task_group() as group:
            for client in (one, two):
                for zone in ("Asia/Kolkata", "Asia/Dubai", "Asia/Bangkok", "Asia/Hong_Kong"):
                    group.start_soon(call, client, zone)
            await anyio.sleep(0.05)
            redis.stop()
            await anyio.sleep(0.5)
            redis.start()

    await checks.check("what one fetched the other has", shared)
    await checks.check("what is outdated in Redis is forgotten in memory", forgotten)
    await checks.check("calls succeed while Redis is down", outage)
    await checks.check("answers are shared again once Redis is back", restarted)
    await checks.check("calls under way while Redis is restarted succeed", burst)


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
