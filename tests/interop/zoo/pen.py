"""The place of one server: its scratch directory, its notes, and its gateway's configuration."""

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from compare import LONE_SURROGATE, REPLACEMENT
from members import Member
from probe import Obj, Transcript, plain, read_json

# The requests that reached the server and are compared: a gateway passes them on one by one.
PASSED_ON = ("tools/call", "prompts/get", "resources/read", "completion/complete")
NOTED = Path(__file__).parent.parent / "lib/noted.sh"
# For a server that starts beside all others.
START_LIMIT = 120


class Pen:
    def __init__(self, gateway: Path, work: Path, node: str, name: str) -> None:
        self.gateway, self.name = gateway, name
        self.place = work / "zoo/pens" / name
        self.scratch = self.place / "scratch"
        self.notes = self.place / "sent"
        self.env = {
            "PATH": f"{Path(node).parent}:{os.environ['PATH']}",
            "HOME": str(self.scratch),
            "LANG": "C.UTF-8",
            # Commits are then the same in each run.
            "GIT_CONFIG_GLOBAL": "/dev/null",
            # The repository that the zoo itself is in is none of a server's business.
            "GIT_CEILING_DIRECTORIES": str(self.place.parent),
        }

    def prepare(self, member: Member) -> None:
        """Lays the directory as it is at the beginning of each session."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.notes.write_text("")
        for path, content in member.files.items():
            file = self.scratch / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        if member.repository is not None:
            self._lay_repository(self.scratch / member.repository)

    def _lay_repository(self, at: Path) -> None:
        at.mkdir(exist_ok=True)
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
        self.prepare(member)
        env = {**self.env, **member.env}
        command = ["bash", str(NOTED), str(self.notes), *member.command]
        if way == "gateway":
            config = self.place / "gateway.toml"
            config.write_text(HEAD + self.section(member.name, command, env))
            command, env = [str(self.gateway), "--stdio", "--config", str(config)], self.env
        stem = f"{revision}.{way}"
        steps = Transcript.of_session(
            member, command, env, self.scratch, revision, self.place / f"{stem}.log"
        )
        steps.update(self.sent())
        (self.place / f"{stem}.json").write_text(json.dumps(plain(steps), indent=1))
        return steps

    def section(self, name: str, command: list[str], env: dict[str, str]) -> str:
        """The server's part of a gateway's configuration."""
        # A TOML string is written as JSON writes it.
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in env.items())
        return (
            f"[servers.{name}]\n"
            f"command = {json.dumps(command[0])}\n"
            f"args = {json.dumps(command[1:])}\n"
            f"cwd = {json.dumps(str(self.scratch))}\n"
            f"env = {{ {pairs} }}\n"
            f"connect_timeout_secs = {START_LIMIT}\n"
        )

    def sent(self) -> dict[str, object]:
        """The parameters that reached the server, by method and what was asked."""
        found: dict[str, object] = {}
        count: Counter[str] = Counter()
        # Not `splitlines`: it also splits where JSON does not.
        for line in self.notes.read_text(errors="replace").split("\n"):
            message = read_json(line) if line else Obj()
            method = message.get("method")
            if method in PASSED_ON:
                asked = plain(message.get("params").without("_meta", "task"))
                asked = json.dumps(asked, sort_keys=True, ensure_ascii=False)
                name = f"sent {method} {LONE_SURROGATE.sub(REPLACEMENT, asked)}"
                count[name] += 1
                found[f"{name} #{count[name]}"] = message.get("params")
        return found


# What stands before the servers in a gateway's configuration.
HEAD = "status_tool = false\n"
