"""The processes below one, so that a test can end exactly the one it means."""

from pathlib import Path


def below(root: int) -> dict[int, str]:
    """Ids and command lines of all processes that descend from `root`."""
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything.
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass  # It has ended meanwhile.
    found: dict[int, str] = {}
    fresh = {root}
    while fresh:
        fresh = {process for process, parent in parents.items() if parent in fresh}
        for process in fresh:
            try:
                found[process] = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
            except OSError:
                pass
    return found


def only_one(root: int, word: str) -> int:
    """The one process below `root` with this word in its command line."""
    processes = below(root)
    found = [process for process, command in processes.items() if word in command]
    assert len(found) == 1, f"{word} should run once: {processes}"
    return found[0]
