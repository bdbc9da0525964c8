"""The filesystem server without arguments, behind the gateway.

It may touch what the client's roots name.

roots.py SUBJECT http SCRATCH URL | roots.py SUBJECT stdio SCRATCH GATEWAY CONFIG
"""

import sys
from pathlib import Path

import anyio
import mcp_types as types
from checks import Checks, connected, text
from mcp import StdioServerParameters


async def main(subject: str, kind: str, scratch: Path, where: list[str]) -> int:
    checks = Checks(f"roots {subject} {kind}")
    inside, outside = scratch / "inside", scratch / "outside.txt"
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "note.txt").write_text("hot tea")
    outside.write_text("cold tea")
    server = where[0]
    if kind == "stdio":
        server = StdioServerParameters(command=where[0], args=["--stdio", "--config", where[1]])

    async def roots(_context: object) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=inside.as_uri(), name="inside")])

    try:
        # 2026-07-28 has no requests of the server.
        async with connected(server, "legacy", list_roots_callback=roots) as client:
            [tool] = [
                tool.name
                for tool in (await client.list_tools()).tools
                if tool.name.endswith("read_text_file")
            ]

            async def read() -> None:
                # It asks when its session begins, and nothing says when it has taken up the answer.
                for _ in range(100):
                    result = await client.call_tool(tool, {"path": str(inside / "note.txt")})
                    if not result.is_error:
                        break
                    await anyio.sleep(0.05)
                assert "hot tea" in text(result), text(result)

            async def refused() -> None:
                result = await client.call_tool(tool, {"path": str(outside)})
                assert result.is_error and "denied" in text(result), result

            await checks.check("a file inside of them is read", read)
            await checks.check("a file outside of them is not", refused)
    except Exception as error:
        checks.fail("connection", error)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    subject, kind, scratch, *where = sys.argv[1:]
    sys.exit(anyio.run(main, subject, kind, Path(scratch), where))
