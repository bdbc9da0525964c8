"""Servers from npm."""

from .member import BOTH, GRAPH_CALLS, Member, Place


def npm(place: Place) -> list[Member]:
    note, folder, graph = place.at("note.txt"), str(place.scratch), place.at("graph.jsonl")
    repository = place.at("repository")
    return [
        Member(
            "calc",
            [place.node, str(place.shared / "@coo-quack/calc-mcp/dist/index.js")],
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
            "thinking-tools",
            place.script("mcp-sequentialthinking-tools/dist/index.js"),
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
            place.script("@allpepper/memory-bank-mcp/dist/main/index.js"),
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
            place.script("mcp-git/dist/cli.js"),
            repository="repository",
            calls=[
                ("git_status", {"repo_path": repository}),
                ("git_log", {"repo_path": repository, "max_count": 5}),
                ("git_show", {"repo_path": repository, "revision": "HEAD"}),
                ("git_show", {"repo_path": repository, "revision": "none"}),
            ],
        ),
        Member(
            "knowledge-graph",
            place.script("@itseasy21/mcp-knowledge-graph/dist/index.js"),
            env={"MEMORY_FILE_PATH": graph},
            calls=GRAPH_CALLS,
        ),
        Member(
            "commands",
            place.script("mcp-server-commands/build/index.js"),
            calls=[
                ("run_command", {"command": "echo tea; echo cup >&2"}),
                ("run_command", {"command": "cat", "stdin": "half \ud83d emoji"}),
                ("run_command", {"command": "exit 3"}),
            ],
            prompts=[("run_command", {"command": "echo tea"})],
        ),
        Member(
            "old-filesystem",
            place.script("mcp-server-filesystem/dist/index.js", folder),
            calls=[
                ("write_file", {"path": note, "content": "one\ntwo\n"}),
                ("read_file", {"path": note}),
                ("read_multiple_files", {"paths": [note, folder + "/none.txt"]}),
                ("list_directory", {"path": folder}),
                ("get_file_info", {"path": folder + "/none.txt"}),
            ],
        ),
        Member(
            "hello",
            place.script("mcp-hello-world/build/stdio.js"),
            calls=[("echo", {"message": "tea"}), ("add", {"a": 0.1, "b": 2}), ("debug", {})],
            reads=["greeting://zoo"],
            prompts=[("helpful-assistant", {})],
        ),
        Member(
            "clock",
            place.script("time-mcp/dist/index.js"),
            calls=[
                ("days_in_month", {"date": "2026-02-01"}),
                ("get_week_year", {"date": "2026-02-01"}),
                ("get_timestamp", {"time": "2026-02-01 12:00:00.000"}),
                (
                    "convert_time",
                    {
                        "sourceTimezone": "UTC",
                        "targetTimezone": "Asia/Tokyo",
                        "time": "2026-02-01 12:00:00",
                    },
                ),
            ],
        ),
        Member(
            "git-cyanheads",
            place.script("@cyanheads/git-mcp-server/dist/index.js"),
            repository="repository",
            calls=[
                ("git_set_working_dir", {"path": repository}),
                ("git_status", {"path": repository}),
                ("git_log", {"path": repository, "maxCount": 2}),
                ("git_show", {"path": repository, "object": "HEAD"}),
                ("git_branch", {"path": repository, "mode": "list"}),
                ("git_show", {"path": repository, "object": "none"}),
                ("git_wrapup_instructions", {"acknowledgement": "Yes"}),
            ],
            prompts=[("git_wrapup", {"createTag": "false"})],
        ),
        # Lists and refusals only: what it does needs a network.
        Member(
            "chart",
            place.script("@antv/mcp-server-chart/build/index.js"),
            env={"VIS_REQUEST_SERVER": "http://127.0.0.1:9"},
        ),
        Member(
            "eslint",
            place.script("@eslint/mcp/src/mcp-cli.js"),
            files={
                "eslint.config.js": 'module.exports = [{ rules: { "no-undef": "error" } }];\n',
                "tea.js": "cup();\n",
            },
            calls=[
                ("lint-files", {"filePaths": [place.at("tea.js")]}),
                ("lint-files", {"filePaths": [place.at("none.js")]}),
            ],
        ),
        Member(
            "tasks",
            place.script("@kazuph/mcp-taskmanager/dist/index.js"),
            env={"TASK_MANAGER_FILE_PATH": place.at("tasks.json")},
            calls=[
                (
                    "request_planning",
                    {
                        "originalRequest": "tea",
                        "tasks": [{"title": "boil", "description": "water"}],
                    },
                ),
                ("get_next_task", {"requestId": "req-1"}),
                ("mark_task_done", {"requestId": "req-1", "taskId": "task-1"}),
                ("list_requests", {}),
                ("open_task_details", {"taskId": "none"}),
            ],
        ),
        Member(
            "obsidian",
            place.script("obsidian-mcp/dist/main.js", place.at("vault")),
            revisions=BOTH,
            files={"vault/.obsidian/app.json": "{}\n", "vault/tea.md": "# Tea\n\n#hot\n"},
            calls=[
                ("obsidian_list_vaults", {}),
                ("obsidian_read_note", {"vault": "vault", "path": "tea.md"}),
                (
                    "obsidian_create_note",
                    {"vault": "vault", "path": "cup.md", "content": "[[tea]]\n"},
                ),
                ("obsidian_search_vault", {"vault": "vault", "query": "tea"}),
                (
                    "obsidian_add_tags",
                    {"vault": "vault", "paths": ["tea.md"], "tags": ["z", "a"]},
                ),
                ("obsidian_read_note", {"vault": "vault", "path": "none.md"}),
            ],
        ),
        Member(
            "drawio",
            place.script("@drawio/mcp/src/index.js"),
            files={
                "tea.drawio": '<mxfile><diagram id="1" name="Tea"><mxGraphModel><root/>'
                "</mxGraphModel></diagram></mxfile>\n"
            },
            calls=[
                ("list_pages", {"path": place.at("tea.drawio")}),
                ("get_page", {"path": place.at("tea.drawio"), "page": "Tea"}),
                ("get_page", {"path": place.at("tea.drawio"), "page": "none"}),
            ],
        ),
        # Stops at 2024-11-05.
        Member(
            "pdf-reader",
            place.script("@sylphlab/pdf-reader-mcp/dist/src/index.js"),
            calls=[("read_pdf", {"sources": [{"path": "none.pdf"}]})],
        ),
        # Without an account: what needs none, and refusals.
        Member(
            "onepassword",
            place.script("@takescake/1password-mcp/bin/1password-mcp.js"),
            revisions=BOTH,
            calls=[
                ("op_check_ref", {"secretReference": "tea"}),
                ("item_get", {}),
                ("password_generate", {"length": 3}),
            ],
            reads_listed=1,
            prompts=[
                ("generate-secure-password", {"purpose": "tea"}),
                ("vault-audit", {}),
                ("secret-reference-helper", {"vaultName": "tea"}),
            ],
        ),
        # Most of what it does needs a network.
        Member(
            "vuetify",
            place.script("@vuetify/mcp/bin/cli.js"),
            calls=[
                ("get_feature_guides", {}),
                ("get_installation_guide", {"platform": "vite", "ssr": False}),
                ("get_migration_receipt_schema", {}),
                ("get_v4_breaking_changes", {"category": "theme"}),
            ],
            prompts=[("install-vuetify", {}), ("upgrade-v2-to-v3", {})],
        ),
        Member(
            "pdf-writer",
            place.script("@mcp-z/mcp-pdf/bin/server.js"),
            calls=[
                (
                    "pdf-document",
                    {"filename": "tea.pdf", "content": [{"type": "text", "text": "tea"}]},
                ),
                ("text-measure", {"items": [{"text": "tea", "fontSize": 12.5}]}),
                ("pdf-image", {"pdfPath": place.at("none.pdf")}),
            ],
            prompts=[("resource-fetching", {})],
        ),
        Member(
            "dex",
            place.script("@zeeg/dex/dist/index.js", "mcp"),
            repository=".",
            calls=[
                ("create_task", {"name": "tea", "description": "hot"}),
                ("list_tasks", {}),
                ("update_task", {"id": "none", "completed": True}),
            ],
        ),
        Member(
            "howtocook",
            place.script("howtocook-mcp/build/index.js"),
            calls=[
                ("mcp_howtocook_getRecipesByCategory", {"category": "饮品"}),
                ("mcp_howtocook_getRecipeById", {"query": "none"}),
            ],
        ),
        # Lists, prompts and refusals only: what it does needs a network.
        Member(
            "mastra",
            place.script("@mastra/mcp-docs-server/dist/stdio.js"),
            prompts=[("upgrade-to-v1", {"area": "agents"}), ("migration-checklist", {})],
        ),
        # Lists and refusals only: what it does needs a browser.
        Member(
            "chrome",
            place.script(
                "chrome-devtools-mcp/build/src/bin/chrome-devtools-mcp.js",
                "--no-usage-statistics",
                "--executablePath",
                place.at("none"),
            ),
            env={"CHROME_DEVTOOLS_MCP_NO_UPDATE_CHECKS": "1"},
        ),
    ]
