"""The servers of the project that keeps the protocol."""

from .member import BOTH, GRAPH_CALLS, Member, Place


def official(place: Place) -> list[Member]:
    shared = place.shared / "@modelcontextprotocol"
    note, folder, database = place.at("note.txt"), str(place.scratch), place.at("zoo.db")
    repository, graph = place.at("repository"), place.at("graph.jsonl")
    thought = {
        "thought": "one",
        "nextThoughtNeeded": True,
        "thoughtNumber": 1,
        "totalThoughts": 2,
    }
    return [
        Member(
            "everything",
            [place.node, str(shared / "server-everything/dist/index.js"), "stdio"],
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
            tasks=[
                ("simulate-research-query", {"topic": "tea"}),
                ("simulate-research-query", {"topic": "tea", "ambiguous": True}),
            ],
        ),
        Member(
            "filesystem",
            [place.node, str(shared / "server-filesystem/dist/index.js"), folder],
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
            [place.node, str(shared / "server-memory/dist/index.js")],
            env={"MEMORY_FILE_PATH": graph},
            calls=GRAPH_CALLS,
        ),
        Member(
            "map",
            [place.node, str(shared / "server-map/dist/index.js"), "--stdio"],
            calls=[
                (
                    "show-map",
                    {"west": 10.5, "south": 59, "east": 11, "north": 60.25, "label": "Oslo"},
                )
            ],
        ),
        Member(
            "sequential-thinking",
            place.script("@modelcontextprotocol/server-sequential-thinking/dist/index.js"),
            calls=[
                ("sequentialthinking", thought),
                ("sequentialthinking", {**thought, "thoughtNumber": 2}),
            ],
        ),
        Member(
            "time",
            [str(place.work / "venv/bin/mcp-server-time"), "--local-timezone", "UTC"],
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
            place.python(2, "mcp-server-git", "--repository", repository),
            revisions=BOTH,
            repository="repository",
            calls=[
                ("git_status", {"repo_path": repository}),
                ("git_log", {"repo_path": repository, "max_count": 5}),
                ("git_show", {"repo_path": repository, "revision": "HEAD"}),
                ("git_branch", {"repo_path": repository, "branch_type": "local"}),
                ("git_diff", {"repo_path": repository, "target": "none"}),
            ],
        ),
        # Lists and refusals only: what it does needs a network.
        Member("fetch", place.python(2, "mcp-server-fetch"), revisions=BOTH),
        Member(
            "sqlite",
            place.python(1, "mcp-server-sqlite", "--db-path", database),
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
            "budget",
            place.script("@modelcontextprotocol/server-budget-allocator/dist/index.js", "--stdio"),
            calls=[("get-budget-data", {})],
        ),
        Member(
            "video",
            place.script("@modelcontextprotocol/server-video-resource/dist/index.js", "--stdio"),
            calls=[("play_video", {"videoId": "bunny-1mb"}), ("play_video", {"videoId": "none"})],
            # The others are fetched from the network.
            reads_listed=0,
            reads=["ui://video-player/mcp-app.html"],
            completions=[
                (
                    {"type": "ref/resource", "uri": "videos://{id}"},
                    {"name": "id", "value": "bunny"},
                )
            ],
        ),
        Member(
            "sheet-music",
            place.script("@modelcontextprotocol/server-sheet-music/dist/index.js", "--stdio"),
            calls=[
                ("play-sheet-music", {"abcNotation": "X:1\nK:C\nCDEF|"}),
                ("play-sheet-music", {"abcNotation": "none"}),
            ],
        ),
    ]
