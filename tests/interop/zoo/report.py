"""What was found: a line for each server and revision, a table, and counts."""

import json
import re
from collections import Counter
from pathlib import Path

from allowed import RULES, reason_for
from compare import Difference
from probe import plain

# Kinds of difference that are printed of one server.
SHOWN = 12


class Report:
    """`differences.tsv` has a row for each difference; `counts.tsv` counts them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.table = (place / "differences.tsv").open("w")
        # By the reason, the server and the kind.
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.failed = False

    def add(self, server: str, revision: str, found: list[Difference] | Exception) -> None:
        """Prints the outcome of one server in one revision, and writes it down."""
        subject = f"zoo {server} {revision}"
        if isinstance(found, Exception):
            self.failed = True
            print(f"FAIL {subject}: {found}", flush=True)
            return
        surprises = []
        for difference in found:
            reason = reason_for(difference)
            if reason is None:
                surprises.append(difference)
            reason = reason or "NOT ALLOWED"
            self.counts[reason, server, difference.kind] += 1
            row = [server, revision, difference.step, difference.path, difference.kind]
            row += [short(difference.bare), short(difference.gateway), reason]
            print("\t".join(row), file=self.table)
        if surprises:
            self.failed = True
            show(surprises)
            print(f"FAIL {subject}: {len(surprises)} differences that are not allowed", flush=True)
        else:
            print(f"ok {subject}: {len(found)} differences, all allowed", flush=True)

    def close(self) -> None:
        """Prints how many differences each reason allows, and of how many servers."""
        self.table.close()
        rows = ["\t".join([*key, str(count)]) for key, count in sorted(self.counts.items())]
        (self.place / "counts.tsv").write_text("\n".join(rows) + "\n")
        # With those that allow nothing: their rules can go.
        reasons = dict.fromkeys([rule.reason for rule in RULES])
        reasons.update(dict.fromkeys(reason for reason, _, _ in self.counts))
        total = {
            reason: (
                sum(count for key, count in self.counts.items() if key[0] == reason),
                len({server for other, server, _ in self.counts if other == reason}),
            )
            for reason in reasons
        }
        print("differences, servers, reason:")
        for reason, (count, servers) in sorted(total.items(), key=lambda item: -item[1][0]):
            print(f"{count:6} {servers:3} {reason}")
        print(f"all differences: {self.table.name}")


def short(value: object) -> str:
    text = json.dumps(plain(value))
    return text if len(text) <= 90 else f"{text[:60]}…{text[-25:]}"


def show(surprises: list[Difference]) -> None:
    """One of each kind, with how many there are."""
    kinds: dict[tuple[str, str, str], list[Difference]] = {}
    for difference in surprises:
        step = re.sub(r"^(sent [^ ]+|call|prompt|read) .*", r"\1", difference.step)
        path = re.sub(r"\[\d+\]|properties\.[^.]+", "[]", difference.path)
        kinds.setdefault((step, path, difference.kind), []).append(difference)
    for alike in list(kinds.values())[:SHOWN]:
        first = alike[0]
        print(f"  {len(alike)} × {first.kind}, as in: {first.step[:60]} · {first.path}")
        print(f"      bare    {short(first.bare)}\n      gateway {short(first.gateway)}")
    if len(kinds) > SHOWN:
        print(f"  and {len(kinds) - SHOWN} more kinds")
