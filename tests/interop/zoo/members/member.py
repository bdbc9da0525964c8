"""What a server of the zoo is, and where the servers are found."""

from dataclasses import dataclass, field
from pathlib import Path

LEGACY = ("2025-06-18", "2025-11-25")
BOTH = (*LEGACY, "2026-07-28")


@dataclass
class Member:
    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    revisions: tuple[str, ...] = LEGACY
    # Pairs of a tool's name and its arguments; None leaves them out.
    calls: list[tuple[str, dict[str, object] | None]] = field(default_factory=list)
    # Tools that are called with a progress token.
    with_progress: tuple[str, ...] = ()
    # How many of the listed resources are read, and which others.
    reads_listed: int = 4
    reads: list[str] = field(default_factory=list)
    prompts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    # Pairs of a reference and an argument.
    completions: list[tuple[dict[str, str], dict[str, str]]] = field(default_factory=list)
    # Calls that are made as a task of 2025-11-25.
    tasks: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    # What the scratch directory holds at the start: a repository at this path, and files.
    repository: str | None = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class Place:
    """Where the servers are installed, and the directory that the one to be started may touch."""

    work: Path
    scratch: Path
    node: str

    @property
    def shared(self) -> Path:
        """The packages of npm that other stages use too."""
        return self.work / "node_modules"

    @property
    def packages(self) -> Path:
        return self.work / "zoo/node_modules"

    def script(self, path: str, *arguments: str) -> list[str]:
        """The command for a script of a package of the zoo's own."""
        return [self.node, str(self.packages / path), *arguments]

    def python(self, sdk: int, name: str, *arguments: str) -> list[str]:
        """The command for a program that is installed beside this major version of the SDK."""
        return [str(self.work / f"venv{sdk}/bin" / name), *arguments]

    def at(self, path: str) -> str:
        return str(self.scratch / path)


# Calls of servers that keep a graph of entities.
_ENTITY = {"name": "tea", "entityType": "drink", "observations": ["hot", "brown"]}
GRAPH_CALLS: list[tuple[str, dict[str, object] | None]] = [
    ("create_entities", {"entities": [_ENTITY, {**_ENTITY, "name": "cup"}]}),
    (
        "create_relations",
        {"relations": [{"from": "tea", "to": "cup", "relationType": "is in"}]},
    ),
    ("read_graph", {}),
    ("search_nodes", {"query": "tea"}),
    ("open_nodes", {"names": ["cup", "none"]}),
]
