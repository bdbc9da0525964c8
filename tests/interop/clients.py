"""The official Python client against the gateway and its embedded demo server.

clients.py http URL | clients.py stdio GATEWAY
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from checks import Checks, call_until_progress, connected, text
from mcp import Client, MCPError, StdioServerParameters


async def calls(checks: Checks, client: Client) -> None:
    async def tools() -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        wanted = {"add", "echo", "count", "sleep", "fail", "reject", "ask", "think"}
        assert wanted <= names, names

    async def call() -> None:
        assert "5" in text(await client.call_tool("add", {"a": 2, "b": 3}))
        said = "Grüße, 世界 🍵"
        assert said in text(await client.call_tool("echo", {"text": said}))

    async def many_at_once() -> None:
        async def add(a: int) -> None:
            assert str(a + 1000) in text(await client.call_tool("add", {"a": a, "b": 1000}))

        async with anyio.create_task_group() as group:
            for a in range(50):
                group.start_soon(add, a)

    async def tool_error() -> None:
        assert (await client.call_tool("fail", {})).is_error

    async def protocol_error() -> None:
        try:
            await client.call_tool("reject", {})
        except MCPError as error:
            assert error.error.code == -32050, error.error
            assert error.error.data == {"reason": "demo"}, error.error
        else:
            raise AssertionError("nothing was raised")

    for step in (tools, call, many_at_once, tool_error, protocol_error):
        await checks.check(step.__name__.replace("_", " "), step)


async def long_calls(checks: Checks, client: Client) -> None:
    async def progress() -> None:
        seen: list[float] = []

        async def on_progress(done: float, _total: float | None, _message: str | None) -> None:
            seen.append(done)

        arguments = {"steps": 20, "delay_ms": 5}
        await client.call_tool("count", arguments, progress_callback=on_progress)
        assert len(seen) == 20 and seen == sorted(seen), seen

    async def cancel() -> None:
        seen = await call_until_progress(client, "count", {"steps": 1000, "delay_ms": 20}, 3)
        heard = len(seen)
        await client.call_tool("count", {"steps": 3, "delay_ms": 20})
        assert len(seen) == heard, seen

    async def give_up() -> None:
        with anyio.move_on_after(0.3) as scope:
            await client.call_tool("sleep", {"ms": 20000})
        assert scope.cancelled_caught
        with anyio.fail_after(2):
            await client.call_tool("add", {"a": 1, "b": 1})

    for step in (progress, cancel, give_up):
        await checks.check(step.__name__.replace("_", " "), step)


async def the_rest(checks: Checks, client: Client) -> None:
    async def resources() -> None:
        uris = [resource.uri for resource in (await client.list_resources()).resources]
        assert "demo://readme" in uris, uris
        assert (await client.read_resource("demo://readme")).contents[0].text

    async def template() -> None:
        templates = (await client.list_resource_templates()).resource_templates
        assert "demo://item/{id}" in [template.uri_template for template in templates], templates
        assert "7" in (await client.read_resource("demo://item/7")).contents[0].text

    async def no_such_resource() -> None:
        try:
            await client.read_resource("demo://nothing")
        except MCPError as error:
            assert error.error.code in (-32002, -32602), error.error
        else:
            raise AssertionError("nothing was raised")

    async def prompt() -> None:
        assert "greet" in [prompt.name for prompt in (await client.list_prompts()).prompts]
        greeting = await client.get_prompt("greet", {"name": "Ada"})
        assert "Ada" in greeting.messages[0].content.text, greeting

    async def elicitation() -> None:
        result = await client.call_tool("ask", {"question": "Which color?"})
        assert "blue" in text(result), result

    async def sampling() -> None:
        result = await client.call_tool("think", {"prompt": "tea?"})
        assert "thought about: tea?" in text(result), result

    for step in (resources, template, no_such_resource, prompt, elicitation, sampling):
        await checks.check(step.__name__.replace("_", " "), step)


@asynccontextmanager
async def client_of(kind: str, where: str, mode: str) -> AsyncIterator[Client]:
    server = where if kind == "http" else StdioServerParameters(command=where, args=["--stdio"])
    async with connected(server, mode) as client:
        yield client


async def main(kind: str, where: str) -> int:
    failed = False
    # With the handshake, without it, and finding out which.
    for mode in ("legacy", "2026-07-28", "auto"):
        checks = Checks(f"python {kind} {mode}")
        try:
            async with client_of(kind, where, mode) as client:
                for part in (calls, long_calls, the_rest):
                    await part(checks, client)
        except Exception as error:
            checks.fail("connection", error)
        failed |= checks.failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, *sys.argv[1:]))
