"""A file of several megabytes, read from a real server through the gateway under a window of 128,000 tokens.

files.py GATEWAY CONFIG FILE

The file is mostly of runs of one character, of which a token has many, so that all of it fits the window.
Read to the end, the pages are the file. Then the window is used up, and the next call is refused. It is
read over stdio, because the client refuses server-sent events of more than 1 MiB.
"""

import sys
from pathlib import Path

import anyio
from mcp import StdioServerParameters

sys.path.append(str(Path(__file__).parent.parent))
from checks import Checks, connected, text

KEY = "rmcp-layers/budget"


async def main(gateway: str, config: str, file: str) -> int:
    checks = Checks("budget files")
    whole = "".join(f"{number}: ü日{'=' * 1_000}\n" for number in range(2_100))
    Path(file).write_text(whole)

    server = StdioServerParameters(command=gateway, args=["--config", config, "--stdio"])
    async with connected(server, "legacy") as client:
        async def pages() -> None:
            cut = await client.call_tool("read_text_file", {"path": file})
            assert not cut.is_error, text(cut)[:300]
            says = cut.meta[KEY]
            assert says["charged"] <= 0.3 * (128_000 - 6_096), says
            arguments, found = {"id": says["cut"]["id"]}, ""
            while arguments:
                page = await client.call_tool("read_result", arguments)
                assert not page.is_error, text(page)
                found += page.content[0].text
                arguments = page.meta[KEY]["page"].get("next")
            assert found.encode() == Path(file).read_bytes(), (len(found), len(whole))

        async def used_up() -> None:
            for _ in range(100):
                result = await client.call_tool("read_text_file", {"path": file})
                if result.is_error:
                    assert "context budget of this conversation is used up" in text(result), text(result)
                    return
            raise AssertionError("no call was refused")

        await checks.check("the pages of a large file are the file", pages)
        await checks.check("a used-up window refuses the next call", used_up)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, *sys.argv[1:]))
