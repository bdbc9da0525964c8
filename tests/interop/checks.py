"""What the Python scripts here share: a line for each check, and a client that answers."""

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import mcp_types as types
from mcp import Client

# Longer than any call here takes; one that takes longer hangs.
LIMIT = 30


class Checks:
    """Runs checks one by one, and prints `ok NAME` or `FAIL NAME WHY` for each."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.failed = False

    async def check(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        try:
            with anyio.fail_after(LIMIT):
                await body()
        except Exception as error:
            self.fail(name, error)
        else:
            print(f"ok {self.subject} {name}", flush=True)

    def fail(self, name: str, error: Exception) -> None:
        self.failed = True
        # An assertion says most by its own line; an exception group, by what is in it.
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        frames = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in frames if "site-packages" not in frame.filename]
        where = f" at `{frames[-1].line}`" if frames else ""
        why = " ".join(f"{type(error).__name__} {error}".split())
        print(f"FAIL {self.subject} {name}: {why}{where}", flush=True)


async def sample(_context: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    prompt = params.messages[0].content
    prompt = prompt[0] if isinstance(prompt, list) else prompt
    answer = types.TextContent(type="text", text=f"thought about: {prompt.text}")
    return types.CreateMessageResult(role="assistant", content=answer, model="none")


async def elicit(_context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    """Answers every field of the form that is a string."""
    fields = params.requested_schema["properties"]
    content = {name: "blue" for name, field in fields.items() if field.get("type") == "string"}
    return types.ElicitResult(action="accept", content=content)


@asynccontextmanager
async def connected(server: object, mode: str, **more: object) -> AsyncIterator[Client]:
    """A client that can be asked for a model's answer and for a user's."""
    client = Client(server, mode=mode, sampling_callback=sample, elicitation_callback=elicit, **more)
    async with client:
        yield client


def text(result: types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


async def call_until_progress(
    client: Client, tool: str, arguments: dict[str, object], steps: int
) -> list[float]:
    """Calls a tool, cancels it after so many steps, and returns the progress that came in all."""
    seen: list[float] = []
    enough = anyio.Event()

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        seen.append(done)
        if len(seen) >= steps:
            enough.set()

    async with anyio.create_task_group() as group:
        async def call() -> None:
            await client.call_tool(tool, arguments, progress_callback=progress)
            raise AssertionError("the call ended before it was cancelled")

        group.start_soon(call)
        await enough.wait()
        group.cancel_scope.cancel()
    return seen
