"""Four real servers and a registered tool behind one gateway, used through it by the official Python client.

multi.py http MODE SCRATCH URL PID | multi.py stdio MODE SCRATCH GATEWAY CONFIG

SCRATCH is the directory the filesystem server may touch; PID, the gateway's process; MODE, legacy or 2026-07-28.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import mcp_types as types
from checks import Checks, connected, text
from mcp import Client, MCPError, StdioServerParameters
from processes import only_one

LONG = "everything__trigger-long-running-operation"
GRAPH = "memory+memory://knowledge-graph"
# What each server's process is known by.
COMMANDS = {
    "everything": "server-everything",
    "filesystem": "server-filesystem",
    "memory": "server-memory",
    "time": "mcp-server-time",
}


async def tools(checks: Checks, client: Client, scratch: Path) -> None:
    async def listed() -> None:
        names = [tool.name for tool in (await client.list_tools()).tools]
        wanted = {
            "gateway__status",
            "everything__echo",
            "filesystem__read_text_file",
            "memory__read_graph",
            "time__convert_time",
        }
        assert wanted <= set(names), names
        assert {name.split("__")[0] for name in names} == {"gateway", *COMMANDS}, names
        assert len(set(names)) == len(names), names

    async def status() -> None:
        await all_are_connected(client)

    async def everything() -> None:
        assert "5" in text(await client.call_tool("everything__get-sum", {"a": 2, "b": 3}))
        seen: list[float] = []

        async def on_progress(done: float, _total: float | None, _message: str | None) -> None:
            seen.append(done)

        await client.call_tool(LONG, {"duration": 0.5, "steps": 5}, progress_callback=on_progress)
        assert seen == [1, 2, 3, 4, 5], seen

    async def filesystem() -> None:
        file = scratch / "note.txt"
        await client.call_tool("filesystem__write_file", {"path": str(file), "content": "one\ntwo\n"})
        assert file.read_text() == "one\ntwo\n"
        read = await client.call_tool("filesystem__read_text_file", {"path": str(file)})
        assert "two" in text(read), read

    async def memory() -> None:
        tea = {"name": "tea", "entityType": "drink", "observations": ["hot"]}
        await client.call_tool("memory__create_entities", {"entities": [tea]})
        assert "tea" in text(await client.call_tool("memory__search_nodes", {"query": "hot"}))

    async def time() -> None:
        noon = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        assert "21:00" in text(await client.call_tool("time__convert_time", noon))

    async def unknown() -> None:
        try:
            await client.call_tool("everything__eco", {})
        except MCPError as error:
            assert error.error.code == -32602 and "everything__echo" in error.error.message, error.error
        else:
            raise AssertionError("nothing was raised")

    for step in (listed, everything, filesystem, memory, time, status, unknown):
        await checks.check(f"tools {step.__name__}", step)


async def all_are_connected(client: Client) -> None:
    result = await client.call_tool("gateway__status", {})
    servers = {server["name"]: server["state"] for server in result.structured_content["servers"]}
    assert servers == dict.fromkeys(COMMANDS, "connected"), servers


async def resources(checks: Checks, client: Client, changes: Callable[[], list[str]]) -> None:
    async def listed() -> None:
        uris = [resource.uri for resource in (await client.list_resources()).resources]
        assert GRAPH in uris and len(uris) > 1, uris
        assert {uri.split("+")[0] for uri in uris} == {"everything", "memory"}, uris
        for uri in uris:
            contents = (await client.read_resource(uri)).contents
            assert contents and contents[0].uri == uri, contents

    async def template() -> None:
        templates = (await client.list_resource_templates()).resource_templates
        uris = [template.uri_template for template in templates]
        assert "everything+demo://resource/dynamic/text/{resourceId}" in uris, uris
        contents = (await client.read_resource("everything+demo://resource/dynamic/text/7")).contents
        assert "7" in contents[0].text, contents

    async def links() -> None:
        result = await client.call_tool("everything__get-resource-links", {"count": 2})
        found = [block.uri for block in result.content if block.type == "resource_link"]
        assert len(found) == 2, result
        result = await client.call_tool("everything__get-resource-reference", {})
        found += [block.resource.uri for block in result.content if block.type == "resource"]
        for uri in found:
            assert (await client.read_resource(uri)).contents[0].uri == uri, uri

    async def change() -> None:
        await change_is_heard(client, changes)

    for step in (listed, template, links, change):
        await checks.check(f"resources {step.__name__}", step)


async def change_is_heard(client: Client, changes: Callable[[], list[str]]) -> None:
    cup = {"name": "cup", "entityType": "thing", "observations": ["full"]}
    if client.protocol_version == "2026-07-28":
        async with client.listen(resource_subscriptions=[GRAPH]) as listen:
            await client.call_tool("memory__create_entities", {"entities": [cup]})
            async for event in listen:
                assert event.uri == GRAPH, event
                return
    await client.subscribe_resource(GRAPH)
    await client.call_tool("memory__create_entities", {"entities": [cup]})
    while not changes():
        await anyio.sleep(0.01)
    assert set(changes()) == {GRAPH}, changes()


async def prompts(checks: Checks, client: Client) -> None:
    async def listed() -> None:
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert {"everything__args-prompt", "everything__resource-prompt"} <= set(names), names

    async def argument() -> None:
        prompt = await client.get_prompt("everything__args-prompt", {"city": "Oslo"})
        assert "Oslo" in prompt.messages[0].content.text, prompt

    async def resource() -> None:
        arguments = {"resourceType": "Text", "resourceId": "3"}
        prompt = await client.get_prompt("everything__resource-prompt", arguments)
        embedded = prompt.messages[1].content.resource.uri
        assert embedded.startswith("everything+demo://"), prompt
        assert (await client.read_resource(embedded)).contents

    async def completion() -> None:
        ref = types.PromptReference(type="ref/prompt", name="everything__completable-prompt")
        completed = await client.complete(ref, {"name": "department", "value": "S"})
        assert set(completed.completion.values) == {"Sales", "Support"}, completed

    for step in (listed, argument, resource, completion):
        await checks.check(f"prompts {step.__name__}", step)


async def killed_child(checks: Checks, client: Client, root: int) -> None:
    """One server's process is killed while every server has a call in flight."""
    before = {name: only_one(root, word) for name, word in COMMANDS.items()}
    others = {
        "filesystem": ("filesystem__list_allowed_directories", {}),
        "memory": ("memory__read_graph", {}),
        "time": ("time__get_current_time", {"timezone": "UTC"}),
    }
    answers: dict[str, types.CallToolResult] = {}
    refusals: list[str] = []

    async def other(name: str) -> None:
        answers[name] = await client.call_tool(*others[name])

    async def victim(begun: anyio.Event, ended: anyio.Event) -> None:
        async def on_progress(_done: float, _total: float | None, _message: str | None) -> None:
            begun.set()

        try:
            arguments = {"duration": 20, "steps": 200}
            await client.call_tool(LONG, arguments, progress_callback=on_progress)
        except MCPError as error:
            refusals.append(error.error.message)
        ended.set()

    async def loses_its_call_only() -> None:
        begun, ended = anyio.Event(), anyio.Event()
        # A stopped process keeps its call in flight until it is let go on.
        for name in others:
            os.kill(before[name], signal.SIGSTOP)
        try:
            async with anyio.create_task_group() as group:
                for name in others:
                    group.start_soon(other, name)
                group.start_soon(victim, begun, ended)
                await begun.wait()
                os.kill(before["everything"], signal.SIGKILL)
                with anyio.fail_after(5):
                    await ended.wait()
                assert len(refusals) == 1 and "everything" in refusals[0], refusals
                assert not answers, answers
                for name in others:
                    os.kill(before[name], signal.SIGCONT)
        finally:
            for name in others:
                os.kill(before[name], signal.SIGCONT)
        assert set(answers) == set(others), answers
        assert not any(answer.is_error for answer in answers.values()), answers

    async def comes_back() -> None:
        assert "again" in text(await client.call_tool("everything__echo", {"message": "again"}))
        after = {name: only_one(root, word) for name, word in COMMANDS.items()}
        changed = {name for name in COMMANDS if before[name] != after[name]}
        assert changed == {"everything"}, (before, after)

    await checks.check("a killed child loses its own call only", loses_its_call_only)
    await checks.check("it comes back on the next call", comes_back)
    await checks.check("all are connected again", lambda: all_are_connected(client))


@asynccontextmanager
async def client_of(
    kind: str, mode: str, where: list[str], on_message: Callable[[object], None]
) -> AsyncIterator[tuple[Client, int]]:
    """The client, and the process below which the servers run."""
    if kind == "http":
        server, root = where[0], int(where[1])
    else:
        gateway, config = where
        args = ["--stdio", "--config", config]
        server, root = StdioServerParameters(command=gateway, args=args), os.getpid()

    async def handler(message: object) -> None:
        on_message(message)

    async with connected(server, mode, message_handler=handler) as client:
        yield client, root


async def main(kind: str, mode: str, scratch: Path, where: list[str]) -> int:
    checks = Checks(f"python {kind} {mode}")
    updated: list[str] = []

    def on_message(message: object) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            updated.append(message.params.uri)

    try:
        async with client_of(kind, mode, where, on_message) as (client, root):
            await tools(checks, client, scratch)
            await resources(checks, client, lambda: updated)
            await prompts(checks, client)
            await killed_child(checks, client, root)
    except Exception as error:
        checks.fail("connection", error)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    kind, mode, scratch, *where = sys.argv[1:]
    sys.exit(anyio.run(main, kind, mode, Path(scratch), where))
