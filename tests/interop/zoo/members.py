"""The servers of the zoo: how each is started, and what it is asked beside what every server is."""

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
    # What the scratch directory holds at the start, beside the common files.
    needs_repository: bool = False


# An object whose keys are in no order but their own, with numbers of several kinds.
MIXED = {"z": 1, "a": [1.5, {"y": None, "b": True}], "m": "text"}


def members(work: Path, scratch: Path, node: str) -> list[Member]:
    """All of them; `scratch` is the directory that the one about to be started may touch."""
    main, more = work / "node_modules", work / "zoo/node_modules"
    python_2, python_1 = work / "venv2/bin", work / "venv1/bin"
    official = main / "@modelcontextprotocol"
    note, folder, database = str(scratch / "note.txt"), str(scratch), str(scratch / "zoo.db")
    repository, graph = str(scratch / "repository"), str(scratch / "graph.jsonl")
    thought = {
        "thought": "one",
        "nextThoughtNeeded": True,
        "thoughtNumber": 1,
        "totalThoughts": 2,
    }
    entity = {"name": "tea", "entityType": "drink", "observations": ["hot", "brown"]}
    graph_calls = [
        ("create_entities", {"entities": [entity, {**entity, "name": "cup"}]}),
        (
            "create_relations",
            {"relations": [{"from": "tea", "to": "cup", "relationType": "is in"}]},
        ),
        ("read_graph", {}),
        ("search_nodes", {"query": "tea"}),
        ("open_nodes", {"names": ["cup", "none"]}),
    ]
    return [
        Member(
            "everything",
            [node, str(official / "server-everything/dist/index.js"), "stdio"],
            calls=[
                ("echo", {"message": "hello"}),
                ("echo", {"message": "half \ud83d emoji"}),
                ("echo", {"message": "whole \U0001f600 emoji, \u0000 and \u2028"}),
                ("get-sum", {"a": 2, "b": 3.0}),
                ("get-annotated-message", {"messageType": "error", "includeImage": True}),
                ("get-annotated-message", {"messageType": "success", "includeImage": False}),
                ("get-annotated-message", {"messageType": "debug"}),
                ("get-resource-links", {"count": 3}),
                ("get-resource-reference", {"resourceType": "Blob", "resourceId": 2}),
                ("get-resource-reference", {"resourceType": "Text", "resourceId": 2}),
                ("get-structured-content", {"location": "New York"}),
                ("get-tiny-image", None),
                ("trigger-long-running-operation", {"duration": 0.3, "steps": 3}),
                ("get-roots-list", {}),
                ("trigger-sampling-request", {"prompt": "tea?", "maxTokens": 10}),
                ("trigger-elicitation-request", {}),
            ],
            with_progress=("trigger-long-running-operation",),
            reads=["demo://resource/dynamic/text/1", "demo://resource/dynamic/blob/1"],
            prompts=[
                ("simple-prompt", {}),
                ("args-prompt", {"city": "Oslo", "state": "none"}),
                ("completable-prompt", {"department": "Sales", "name": "Bob"}),
                ("resource-prompt", {"resourceType": "Text", "resourceId": "1"}),
            ],
            completions=[
                (
                    {"type": "ref/prompt", "name": "completable-prompt"},
                    {"name": "department", "value": "S"},
                ),
                (
                    {"type": "ref/resource", "uri": "demo://resource/dynamic/text/{resourceId}"},
                    {"name": "resourceId", "value": "1"},
                ),
            ],
        ),
        Member(
            "filesystem",
            [node, str(official / "server-filesystem/dist/index.js"), folder],
            calls=[
                ("write_file", {"path": note, "content": "one\ntwo\nthree\n"}),
                ("read_text_file", {"path": note, "head": 2}),
                ("read_text_file", {"path": "/etc/hostname"}),
                ("edit_file", {"path": note, "edits": [{"oldText": "two", "newText": "2"}]}),
                ("list_directory", {"path": folder}),
                ("directory_tree", {"path": folder}),
                ("read_media_file", {"path": note}),
                ("list_allowed_directories", {}),
            ],
        ),
        Member(
            "memory",
            [node, str(official / "server-memory/dist/index.js")],
            env={"MEMORY_FILE_PATH": graph},
            calls=graph_calls,
        ),
        Member(
            "map",
            [node, str(official / "server-map/dist/index.js"), "--stdio"],
            calls=[
                (
                    "show-map",
                    {"west": 10.5, "south": 59, "east": 11, "north": 60.25, "label": "Oslo"},
                )
            ],
        ),
        Member(
            "calc",
            [node, str(main / "@coo-quack/calc-mcp/dist/index.js")],
            calls=[
                # What a script gets that cuts a string in the middle of an emoji.
                ("encode", {"action": "decode", "type": "unicode", "input": "cut \\ud83d here"}),
                ("hash", {"input": "tea", "algorithm": "sha256"}),
                ("math", {"action": "statistics", "values": [1, 2.5, 4]}),
                ("math", {"expression": "2 ^ 100"}),
                ("convert", {"value": 0.1, "from": "km", "to": "m"}),
                ("color", {"color": "#ff8800"}),
                ("semver", {"action": "parse", "version": "1.2.3-alpha.1+build"}),
                ("format_validate", {"input": '{"z": 1, "a": 2}', "format": "json"}),
            ],
        ),
        Member(
            "sequential-thinking",
            [node, str(more / "@modelcontextprotocol/server-sequential-thinking/dist/index.js")],
            calls=[
                ("sequentialthinking", thought),
                ("sequentialthinking", {**thought, "thoughtNumber": 2}),
            ],
        ),
        Member(
            "thinking-tools",
            [node, str(more / "mcp-sequentialthinking-tools/dist/index.js")],
            calls=[
                (
                    "sequentialthinking_tools",
                    {
                        "available_mcp_tools": ["z", "a"],
                        "thought": "one",
                        "next_thought_needed": True,
                        "thought_number": 1,
                        "total_thoughts": 2,
                    },
                )
            ],
        ),
        Member(
            "memory-bank",
            [node, str(more / "@allpepper/memory-bank-mcp/dist/main/index.js")],
            env={"MEMORY_BANK_ROOT": folder},
            calls=[
                (
                    "memory_bank_write",
                    {"projectName": "p", "fileName": "f.md", "content": "# tea\n"},
                ),
                ("list_projects", {}),
                ("list_project_files", {"projectName": "p"}),
                ("memory_bank_read", {"projectName": "p", "fileName": "f.md"}),
                ("memory_bank_read", {"projectName": "p", "fileName": "none.md"}),
            ],
        ),
        Member(
            "git-js",
            [node, str(more / "mcp-git/dist/cli.js")],
            needs_repository=True,
            calls=[
                ("git_status", {"repo_path": repository}),
                ("git_log", {"repo_path": repository, "max_count": 5}),
                ("git_show", {"repo_path": repository, "revision": "HEAD"}),
                ("git_show", {"repo_path": repository, "revision": "none"}),
            ],
        ),
        Member(
            "knowledge-graph",
            [node, str(more / "@itseasy21/mcp-knowledge-graph/dist/index.js")],
            env={"MEMORY_FILE_PATH": graph},
            calls=graph_calls,
        ),
        Member(
            "commands",
            [node, str(more / "mcp-server-commands/build/index.js")],
            calls=[
                ("run_command", {"command": "echo tea; echo cup >&2"}),
                ("run_command", {"command": "cat", "stdin": "half \ud83d emoji"}),
                ("run_command", {"command": "exit 3"}),
            ],
            prompts=[("run_command", {"command": "echo tea"})],
        ),
        Member(
            "old-filesystem",
            [node, str(more / "mcp-server-filesystem/dist/index.js"), folder],
            calls=[
                ("write_file", {"path": note, "content": "one\ntwo\n"}),
                ("read_file", {"path": note}),
                ("read_multiple_files", {"paths": [note, folder + "/none.txt"]}),
                ("list_directory", {"path": folder}),
                ("get_file_info", {"path": folder + "/none.txt"}),
            ],
        ),
        Member(
            "time",
            [str(work / "venv/bin/mcp-server-time"), "--local-timezone", "UTC"],
            revisions=BOTH,
            calls=[
                ("get_current_time", {"timezone": "Asia/Tokyo"}),
                (
                    "convert_time",
                    {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
                ),
                ("get_current_time", {"timezone": "Nowhere/Else"}),
            ],
        ),
        Member(
            "git",
            [str(python_2 / "mcp-server-git"), "--repository", repository],
            revisions=BOTH,
            needs_repository=True,
            calls=[
                ("git_status", {"repo_path": repository}),
                ("git_log", {"repo_path": repository, "max_count": 5}),
                ("git_show", {"repo_path": repository, "revision": "HEAD"}),
                ("git_branch", {"repo_path": repository, "branch_type": "local"}),
                ("git_diff", {"repo_path": repository, "target": "none"}),
            ],
        ),
        # Lists and refusals only: what it does needs a network.
        Member("fetch", [str(python_2 / "mcp-server-fetch")], revisions=BOTH),
        Member(
            "fastmcp",
            [str(python_2 / "sample-mcp-server"), "--transport", "stdio"],
            revisions=BOTH,
            calls=[
                ("calculate", {"expression": "2 * (3 + 4)"}),
                ("analyze_text", {"text": "one two two"}),
                ("hash_text", {"text": "tea"}),
                ("json_format", {"data": '{"z": 1, "a": 2}'}),
                ("convert_units", {"value": 0.1, "from_unit": "km", "to_unit": "m"}),
                ("note_add", {"title": "tea", "body": "hot"}),
                ("note_list", None),
                ("note_get", {"note_id": 999}),
            ],
            # The others tell how long the calls took.
            reads_listed=2,
            reads=["resource://notes/1"],
            prompts=[
                ("summarize_text", {"text": "tea"}),
                ("code_review", {"code": "1", "language": "c"}),
            ],
        ),
        Member(
            "sqlite",
            [str(python_1 / "mcp-server-sqlite"), "--db-path", database],
            calls=[
                ("create_table", {"query": "create table t (z integer, a text)"}),
                ("write_query", {"query": "insert into t values (1, 'one'), (2, null)"}),
                ("read_query", {"query": "select z, a from t"}),
                ("list_tables", {}),
                ("describe_table", {"table_name": "t"}),
                ("read_query", {"query": "drop table t"}),
                ("append_insight", {"insight": "tea is hot"}),
            ],
            prompts=[("mcp-demo", {"topic": "tea"})],
        ),
        Member(
            "color",
            [str(python_1 / "color-mcp-server")],
            calls=[
                ("tool_get_color_info_local", {"color_hex": "#ff8800"}),
                ("tool_check_contrast", {"foreground": "#ffffff", "background": "#767676"}),
                ("tool_convert_color", {"value": "#ff8800", "source": "hex", "target": "hsl"}),
                (
                    "tool_generate_gradient",
                    {"start_color": "#000000", "end_color": "#ffffff", "steps": 3},
                ),
                ("tool_get_css_variables", {"palette": ["#ff8800", "#0088ff"], "prefix": "c"}),
            ],
        ),
        Member(
            "dates",
            [str(python_1 / "date_calculator_ai_mcp")],
            calls=[
                ("days_between", {"date1": "2026-01-01", "date2": "2026-02-01"}),
                ("add_business_days", {"start_date": "2026-01-01", "business_days": 5}),
                ("next_weekday", {"start_date": "2026-01-01", "target_day": "monday"}),
                ("format_date", {"date_string": "never"}),
            ],
        ),
        # Speaks the protocol by its own code, without an SDK.
        Member(
            "crosstalk",
            [str(python_1 / "python"), "-m", "main"],
            env={"PYTHONPATH": str(work / "zoo/crosstalk")},
            calls=[
                ("list_groups", {"context_id": "zoo", "caller_name": "zoo", **MIXED}),
                ("create_group", {"context_id": "zoo", "caller_name": "zoo", "name": "tea"}),
                ("list_groups", {"context_id": "zoo", "caller_name": "zoo"}),
            ],
        ),
    ]
