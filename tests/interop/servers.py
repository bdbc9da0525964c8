"""Real servers behind the gateway, driven by the official Python client.

servers.py NAME URL SCRATCH: SCRATCH is the directory the filesystem server may touch, and where what
the gateway sends to the everything server is noted (SCRATCH/../everything.sent).
"""

import sys
from pathlib import Path

import anyio
from checks import Checks, call_until_progress, connected, text
from mcp import Client

LONG = "trigger-long-running-operation"


async def everything(checks: Checks, client: Client, scratch: Path) -> None:
    async def tools() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"echo", "get-sum", LONG} <= set(names), names

    async def call() -> None:
        assert "hello" in text(await client.call_tool("echo", {"message": "hello"}))
        assert "5" in text(await client.call_tool("get-sum", {"a": 2, "b": 3}))

    async def image() -> None:
        kinds = {block.type for block in (await client.call_tool("get-tiny-image", {})).content}
        assert "image" in kinds, kinds

    async def structured() -> None:
        result = await client.call_tool("get-structured-content", {"location": "New York"})
        assert result.structured_content, result

    async def bad_arguments() -> None:
        result = await client.call_tool("get-sum", {"a": "two", "b": 3})
        assert result.is_error, result

    async def resources() -> None:
        listed = (await client.list_resources()).resources
        assert listed
        contents = (await client.read_resource(listed[0].uri)).contents
        assert contents and contents[0].uri == listed[0].uri

    async def templates() -> None:
        templates = (await client.list_resource_templates()).resource_templates
        assert any("text/{" in template.uri_template for template in templates), templates
        contents = (await client.read_resource("demo://resource/dynamic/text/1")).contents
        assert contents[0].text, contents

    async def prompts() -> None:
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert "args-prompt" in names, names
        prompt = await client.get_prompt("args-prompt", {"city": "Oslo"})
        assert "Oslo" in prompt.messages[0].content.text, prompt

    async def progress() -> None:
        seen: list[tuple[float, float | None]] = []

        async def on_progress(done: float, total: float | None, _message: str | None) -> None:
            seen.append((done, total))

        arguments = {"duration": 0.5, "steps": 5}
        await client.call_tool(LONG, arguments, progress_callback=on_progress)
        assert seen == [(step, 5) for step in range(1, 6)], seen

    def cancellations() -> int:
        sent = (scratch.parent / "everything.sent").read_text()
        return sent.count('"notifications/cancelled"')

    async def cancel() -> None:
        before = cancellations()
        seen = await call_until_progress(client, LONG, {"duration": 25, "steps": 250}, steps=3)
        heard = len(seen)
        # The connection serves on, and what the cancelled call still says goes nowhere.
        for _ in range(3):
            await client.call_tool(LONG, {"duration": 0.3, "steps": 1})
        assert len(seen) == heard, seen
        assert cancellations() == before + 1, "the server was not told, once"

    for step in (tools, call, image, structured, bad_arguments, resources, templates, prompts):
        await checks.check(step.__name__.replace("_", " "), step)
    await checks.check("progress", progress)
    await checks.check("cancel", cancel)


async def ask_the_client(checks: Checks, client: Client) -> None:
    """The everything server asks by its own requests, as the revisions before 2026-07-28 do."""

    async def sampling() -> None:
        result = await client.call_tool("trigger-sampling-request", {"prompt": "tea?"})
        assert "thought about" in text(result), result

    async def elicitation() -> None:
        result = await client.call_tool("trigger-elicitation-request", {})
        assert "blue" in text(result), result

    await checks.check("sampling", sampling)
    await checks.check("elicitation", elicitation)


async def filesystem(checks: Checks, client: Client, scratch: Path) -> None:
    file = scratch / "note.txt"

    async def tools() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"write_file", "read_text_file", "list_directory"} <= set(names), names

    async def write() -> None:
        await client.call_tool("write_file", {"path": str(file), "content": "one\ntwo\n"})
        assert file.read_text() == "one\ntwo\n"

    async def read() -> None:
        result = await client.call_tool("read_text_file", {"path": str(file)})
        assert "two" in text(result), result

    async def directory() -> None:
        result = await client.call_tool("list_directory", {"path": str(scratch)})
        assert "note.txt" in text(result), result

    async def refused() -> None:
        result = await client.call_tool("read_text_file", {"path": "/etc/hostname"})
        assert result.is_error and "denied" in text(result).lower(), result

    for step in (tools, write, read, directory, refused):
        await checks.check(step.__name__, step)


async def memory(checks: Checks, client: Client, _scratch: Path) -> None:
    async def tools() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"create_entities", "read_graph", "search_nodes"} <= set(names), names

    async def remember() -> None:
        tea = {"name": "tea", "entityType": "drink", "observations": ["hot"]}
        await client.call_tool("create_entities", {"entities": [tea]})
        assert "tea" in text(await client.call_tool("read_graph", {}))

    async def search() -> None:
        result = await client.call_tool("search_nodes", {"query": "hot"})
        assert "tea" in text(result), result

    for step in (tools, remember, search):
        await checks.check(step.__name__, step)


async def time(checks: Checks, client: Client, _scratch: Path) -> None:
    async def tools() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"get_current_time", "convert_time"} <= set(names), names

    async def convert() -> None:
        noon = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        assert "21:00" in text(await client.call_tool("convert_time", noon))

    async def unknown_zone() -> None:
        result = await client.call_tool("get_current_time", {"timezone": "Nowhere/Else"})
        assert result.is_error, result

    for step in (tools, convert, unknown_zone):
        await checks.check(step.__name__.replace("_", " "), step)


async def calc(checks: Checks, client: Client, _scratch: Path) -> None:
    async def half_emoji() -> None:
        # The escape goes in; the half itself, which is not a character, comes out.
        half = {"action": "decode", "type": "unicode", "input": "cut \\ud83d here"}
        assert text(await client.call_tool("encode", half)) == "cut \ufffd here"

    async def whole_emoji() -> None:
        whole = {"action": "decode", "type": "unicode", "input": "\\ud83d\\ude00"}
        assert text(await client.call_tool("encode", whole)) == "\U0001f600"

    for step in (half_emoji, whole_emoji):
        await checks.check(step.__name__.replace("_", " "), step)


SERVERS = {
    "calc": calc,
    "everything": everything,
    "filesystem": filesystem,
    "memory": memory,
    "time": time,
}


async def main(name: str, url: str, scratch: Path) -> int:
    failed = False
    # The servers are legacy; whoever calls them through the gateway need not be.
    for mode in ("legacy", "2026-07-28"):
        checks = Checks(f"{name} {mode}")
        try:
            async with connected(url, mode) as client:
                await SERVERS[name](checks, client, scratch)
                if name == "everything" and mode == "legacy":
                    await ask_the_client(checks, client)
        except Exception as error:
            checks.fail("connection", error)
        failed |= checks.failed
    return 1 if failed else 0


if __name__ == "__main__":
    name, url, scratch = sys.argv[1:]
    sys.exit(anyio.run(main, name, url, Path(scratch)))
