"""Reads what the conformance suite wrote, prints one table, and says where the columns differ.

compare.py RESULTS COLUMN...: RESULTS/rows names the rows, RESULTS/ROW/COLUMN holds the suite's
output. The rows with a fault are listed in RESULTS/faulty. The first column is the yardstick: it must pass every check, as many as RESULTS/rows says,
and every other column must be told the same as it, check by check.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")


# What a server need not do, and what the suite then says by INFO: the gateway answers with JSON where
# nothing comes before the answer, so there are no event streams to look at.
OPTIONAL = {"server-sse-multiple-streams/server-sse-streams-functional/ServerSSEStreamsFunctional"}


def judgements(directory: Path) -> dict[str, str]:
    """Every check of a run, by a name that is the same in all columns, with its status."""
    found = {}
    for file in sorted(directory.glob("*/checks.json")):
        scenario = STAMP.sub("", file.parent.name).removeprefix("server-")
        seen = Counter()
        for check in json.loads(file.read_text()):
            name = f"{scenario}/{check['id']}/{check['name']}"
            # INFO is what the suite saw on the way, not what it made of it.
            if check["status"] == "INFO" and name not in OPTIONAL:
                continue
            seen[name] += 1
            if seen[name] > 1:
                name += f" #{seen[name]}"
            found[name] = "SUCCESS" if check["status"] == "INFO" else check["status"]
    return found


def score(found: dict[str, str]) -> str:
    count = Counter(found.values())
    return f"{count['SUCCESS']}/{len(found) - count['SKIPPED']}"


def faults_of_yardstick(row: str, column: str, found: dict[str, str], expected: int) -> list[str]:
    faults = [
        f"{row}: {check} is {status} in {column}"
        for check, status in found.items()
        if status not in ("SUCCESS", "SKIPPED")
    ]
    passed = Counter(found.values())["SUCCESS"]
    if passed != expected:
        faults.append(f"{row}: {passed} checks passed in {column}, {expected} should")
    return faults


def differences(row: str, first: str, bare: dict, column: str, other: dict) -> list[str]:
    return [
        f"{row}: {check} is {bare.get(check, 'absent')} in {first}, "
        f"{other.get(check, 'absent')} in {column}"
        for check in sorted(bare.keys() | other.keys())
        if bare.get(check) != other.get(check)
    ]


def main(results: Path, columns: list[str]) -> int:
    table = [["", *columns]]
    faults = []
    faulty = []
    for line in (results / "rows").read_text().splitlines():
        row, expected = line.split("|")
        bare = judgements(results / row / columns[0])
        faults += faults_of_yardstick(row, columns[0], bare, int(expected))
        cells = [row, score(bare)]
        for column in columns[1:]:
            directory = results / row / column
            # A column without a client plays no client rows.
            if not directory.exists():
                cells.append("-")
                continue
            other = judgements(directory)
            faults += differences(row, columns[0], bare, column, other)
            cells.append(score(other))
        table.append(cells)
        if any(fault.startswith(f"{row}: ") for fault in faults):
            faulty.append(row)
    (results / "faulty").write_text("".join(f"{row}\n" for row in faulty))
    widths = [max(map(len, cells)) for cells in zip(*table)]
    for cells in table:
        first, *rest = (cell.ljust(width) for cell, width in zip(cells, widths))
        print("  ".join([first, *rest]).rstrip())
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
