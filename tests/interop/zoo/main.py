"""Real servers with and without the gateway in front of them, compared message by message.

main.py GATEWAY WORK NODE [NAME...]

WORK is where the servers are installed and where everything is written down. With names, those
servers only.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from allowed import RULES, reason_for
from compare import LONE_SURROGATE, REPLACEMENT, Difference, of_transcripts, without_volatile
from members import Member, members
from probe import Number, Obj, read_json, transcribe

# The requests that reached the server and are compared: a gateway passes them on one by one.
PASSED_ON = ("tools/call", "prompts/get", "resources/read", "completion/complete")
# Kinds of difference that are printed of one server.
SHOWN = 12


class Pen:
    """One server's place: its scratch directory, its notes, and its gateway's configuration."""

    def __init__(self, gateway: Path, work: Path, node: str, name: str) -> None:
        self.gateway, self.name = gateway, name
        self.place = work / "zoo/pens" / name
        self.scratch = self.place / "scratch"
        self.notes = self.place / "sent"
        self.noted = Path(__file__).parent.parent / "lib/noted.sh"
        self.env = {
            "PATH": f"{Path(node).parent}:{os.environ['PATH']}",
            "HOME": str(self.scratch),
            "LANG": "C.UTF-8",
            # Commits are then the same in each run.
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }

    def clean(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.notes.write_text("")

    def repository(self) -> None:
        at = self.scratch / "repository"
        at.mkdir()
        (at / "tea.txt").write_text("hot\n")
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (
                ("NAME", "Zoo"),
                ("EMAIL", "zoo@example"),
                ("DATE", "2026-01-01T00:00:00Z"),
            )
        }
        for arguments in (
            ["init", "-q", "-b", "main"],
            ["add", "."],
            ["commit", "-q", "-m", "Tea"],
        ):
            subprocess.run(["git", *arguments], cwd=at, env={**self.env, **who}, check=True)

    def run(self, member: Member, revision: str, way: str) -> dict[str, object]:
        """A transcript of the server by itself, or behind the gateway, from the same beginning."""
        self.clean()
        if member.needs_repository:
            self.repository()
        env = {**self.env, **member.env}
        command = ["bash", str(self.noted), str(self.notes), *member.command]
        if way == "gateway":
            config = self.place / "gateway.toml"
            config.write_text(toml(member.name, command, env))
            command, env = [str(self.gateway), "--stdio", "--config", str(config)], self.env
        stem = f"{revision}.{way}"
        steps = transcribe(member, command, env, self.scratch, revision, self.place / f"{stem}.log")
        steps.update(self.sent())
        (self.place / f"{stem}.json").write_text(json.dumps(plain(steps), indent=1))
        return steps

    def sent(self) -> dict[str, object]:
        """The parameters that reached the server, by method and what was asked."""
        found: dict[str, object] = {}
        count: Counter[str] = Counter()
        # Not `splitlines`: it also splits where JSON does not.
        for line in self.notes.read_text(errors="replace").split("\n"):
            message = read_json(line) if line else Obj()
            method = message.get("method")
            if method in PASSED_ON:
                asked = plain(message.get("params").without("_meta"))
                asked = json.dumps(asked, sort_keys=True, ensure_ascii=False)
                name = f"sent {method} {LONE_SURROGATE.sub(REPLACEMENT, asked)}"
                count[name] += 1
                found[f"{name} #{count[name]}"] = message.get("params")
        return found


def toml(name: str, command: list[str], env: dict[str, str]) -> str:
    # A TOML string is written as JSON writes it.
    pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in env.items())
    return (
        "status_tool = false\n"
        f"[servers.{name}]\n"
        f"command = {json.dumps(command[0])}\n"
        f"args = {json.dumps(command[1:])}\n"
        f"env = {{ {pairs} }}\n"
    )


def plain(value: object) -> object:
    """As a thing that `json` can write, for the reader."""
    match value:
        case Obj():
            return {key: plain(inner) for key, inner in value}
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case Number():
            number = json.loads(value)
            return number if json.dumps(number) == value else f"number {value}"
    return value


def judge(pen: Pen, member: Member, revision: str) -> list[Difference]:
    """The differences that the gateway makes.

    The run through it is the middle one: what grows with time then differs between the outer two
    if it differs at all.
    """
    first = pen.run(member, revision, "bare")
    middle = pen.run(member, revision, "gateway")
    last = pen.run(member, revision, "bare-again")
    if "ended" in first:
        raise RuntimeError(f"it ended by itself: see {pen.place}/{revision}.bare.log")
    return without_volatile(of_transcripts(first, middle), of_transcripts(first, last))


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


def visit(pen: Pen, member: Member) -> list[tuple[str, list[Difference] | Exception]]:
    seen = []
    for revision in member.revisions:
        try:
            seen.append((revision, judge(pen, member, revision)))
        except Exception as error:
            seen.append((revision, error))
    return seen


def main(gateway: Path, work: Path, node: str, names: list[str]) -> int:
    everyone = [member.name for member in members(work, work, node)]
    chosen = [name for name in everyone if name in names or not names]
    pens = {name: Pen(gateway, work, node, name) for name in chosen}
    table = (work / "zoo/differences.tsv").open("w")
    # With those that allow nothing: their rules can go.
    reasons = Counter({rule.reason: 0 for rule in RULES})
    failed = False

    def go(name: str) -> list[tuple[str, list[Difference] | Exception]]:
        pen = pens[name]
        member = next(member for member in members(work, pen.scratch, node) if member.name == name)
        return visit(pen, member)

    # No more than there are cores: the gateway gives up on a server that starts too slowly.
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for name, seen in zip(chosen, pool.map(go, chosen)):
            for revision, found in seen:
                subject = f"zoo {name} {revision}"
                if isinstance(found, Exception):
                    failed = True
                    print(f"FAIL {subject}: {found}", flush=True)
                    continue
                surprises: list[Difference] = []
                for difference in found:
                    reason = reason_for(difference)
                    reasons[reason or "not allowed"] += 1
                    surprises += [difference] if reason is None else []
                    row = [name, revision, difference.step, difference.path, difference.kind]
                    row += [
                        short(difference.bare),
                        short(difference.gateway),
                        reason or "NOT ALLOWED",
                    ]
                    print("\t".join(row), file=table)
                show(surprises)
                if surprises:
                    failed = True
                    print(
                        f"FAIL {subject}: {len(surprises)} differences that are not allowed",
                        flush=True,
                    )
                else:
                    print(f"ok {subject}: {len(found)} differences, all allowed", flush=True)
    table.close()
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")
    print(f"all differences: {table.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    gateway, work, node, *names = sys.argv[1:]
    sys.exit(main(Path(gateway), Path(work), node, names))
