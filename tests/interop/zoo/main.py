"""Real servers with and without the gateway in front of them, compared message by message.

main.py GATEWAY WORK NODE [NAME...]

WORK is where the servers are installed and where everything is written down. With names, those
servers only.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from compare import Difference, of_transcripts, without_volatile
from members import Member, members
from pen import Pen
from report import Report
from together import Lists, compare_together, lists_of

# Servers that are visited at once: the gateway gives up on one that starts too slowly.
AT_ONCE = 4


@dataclass
class Visit:
    """One server in one revision: what the gateway changes, and the lists without the gateway."""

    revision: str
    found: list[Difference] | Exception
    bare: tuple[Lists, Lists] | None = None


def visit(pen: Pen, member: Member, revision: str) -> Visit:
    """Plays one session through the gateway, between two without it.

    What grows with time then differs between the outer two if it differs at all.
    """
    try:
        first = pen.run(member, revision, "bare")
        middle = pen.run(member, revision, "gateway")
        last = pen.run(member, revision, "bare-again")
        if "ended" in first:
            raise RuntimeError(f"it ended by itself: see {pen.place}/{revision}.bare.log")
        found = without_volatile(of_transcripts(first, middle), of_transcripts(first, last))
        return Visit(revision, found, (lists_of(first), lists_of(last)))
    except Exception as error:
        return Visit(revision, error)


def main(gateway: Path, work: Path, node: str, names: list[str]) -> int:
    everyone = [member.name for member in members(work, work, node)]
    pens = {name: Pen(gateway, work, node, name) for name in everyone if name in names or not names}
    chosen = [
        next(member for member in members(work, pen.scratch, node) if member.name == name)
        for name, pen in pens.items()
    ]
    report = Report(work / "zoo")
    bare: dict[str, dict[str, tuple[Lists, Lists]]] = {}

    def visits(member: Member) -> list[Visit]:
        return [visit(pens[member.name], member, revision) for revision in member.revisions]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for member, seen in zip(chosen, pool.map(visits, chosen)):
            for visited in seen:
                report.add(member.name, visited.revision, visited.found)
                if visited.bare is not None:
                    bare.setdefault(visited.revision, {})[member.name] = visited.bare
    # A server that stands alone has no prefix.
    if len(chosen) > 1:
        for revision, lists in sorted(bare.items()):
            subject = f"{revision} together"
            try:
                found = compare_together(revision, pens, chosen, lists)
            except Exception as error:
                report.add("all", subject, error)
                continue
            for name, differences in found.items():
                report.add(name, subject, differences)
    report.close()
    return 1 if report.failed else 0


if __name__ == "__main__":
    gateway, work, node, *names = sys.argv[1:]
    sys.exit(main(Path(gateway), Path(work), node, names))
