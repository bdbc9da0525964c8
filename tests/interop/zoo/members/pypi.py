"""Servers from PyPI."""

from .member import BOTH, Member, Place

# An object whose keys are in no order but their own, with numbers of several kinds.
MIXED = {"z": 1, "a": [1.5, {"y": None, "b": True}], "m": "text"}


def pypi(place: Place) -> list[Member]:
    folder, book = str(place.scratch), place.at("tea.xlsx")
    return [
        Member(
            "fastmcp",
            place.python(2, "sample-mcp-server", "--transport", "stdio"),
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
            "color",
            place.python(1, "color-mcp-server"),
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
            place.python(1, "date_calculator_ai_mcp"),
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
            place.python(1, "python", "-m", "main"),
            env={"PYTHONPATH": str(place.work / "zoo/crosstalk")},
            calls=[
                ("list_groups", {"context_id": "zoo", "caller_name": "zoo", **MIXED}),
                ("create_group", {"context_id": "zoo", "caller_name": "zoo", "name": "tea"}),
                ("list_groups", {"context_id": "zoo", "caller_name": "zoo"}),
            ],
        ),
        # It has sampling, roots and subscriptions, by its own code.
        Member(
            "devmcp",
            place.python(1, "devmcp", "--repo-path", folder),
            repository=".",
            calls=[
                ("write_file", {"path": "cup.txt", "content": "full\n"}),
                ("git_branch", {"name": "cold"}),
                ("summarize_diff", {"diff": "-hot\n+cold\n"}),
                (
                    "sqlite_create_table",
                    {
                        "db_path": "tea.db",
                        "table": "t",
                        "columns": {"z": "INTEGER", "a": "TEXT"},
                    },
                ),
                (
                    "sqlite_insert_row",
                    {"db_path": "tea.db", "table": "t", "values": {"z": 1, "a": "one"}},
                ),
            ],
            reads=["repo://file/cup.txt"],
            prompts=[("commit-message", {"diff": "-hot\n"}), ("pr-description", {"commits": "1"})],
        ),
        # By its own code. What it does needs a server of its own, which is not there.
        Member(
            "phocinae",
            place.python(1, "phocinae-mcp"),
            revisions=BOTH,
            calls=[("gate", {"command": "ls"}), ("score", {"state": "tea", "criteria": ["hot"]})],
        ),
        Member(
            "business-day",
            place.python(1, "business-day-mcp"),
            calls=[
                ("is_business_day", {"date": "2026-04-21", "country": "DE"}),
                ("list_holidays", {"year": 2026, "country": "NO"}),
                (
                    "business_days_between",
                    {"start_date": "2026-01-01", "end_date": "2026-02-01", "country": "GB"},
                ),
                ("is_business_day", {"date": "never", "country": "DE"}),
            ],
        ),
        # Its calls need data from the network.
        Member("languages", place.python(2, "cldf-mcp"), revisions=BOTH, reads_listed=1),
        Member(
            "excel",
            place.python(2, "excel-mcp-server", "stdio"),
            revisions=BOTH,
            files={"tea.csv": "z,a\n1,0.5\n"},
            env={"EXCEL_FILES_PATH": folder},
            calls=[
                ("create_workbook", {"path": book, "sheets": ["z", "a"]}),
                ("write_range", {"path": book, "sheet": "z", "at": "A1", "rows": [[1, 2.5, "t"]]}),
                ("read_range", {"path": book, "sheet": "z"}),
                ("import_csv", {"path": book, "csv_path": place.at("tea.csv"), "sheet": "a"}),
                ("describe_workbook", {"path": book}),
                ("read_range", {"path": book, "sheet": "none"}),
            ],
        ),
        Member(
            "icons",
            place.python(2, "icon-mcp"),
            revisions=BOTH,
            calls=[
                ("search_icons", {"query": "cup", "limit": 3}),
                ("generate_icons", {"icons": ["cup-soda"], "size": 16, "stroke_width": 1.5}),
                ("generate_icons", {"icons": ["none"]}),
            ],
        ),
        Member(
            "llms-txt",
            place.python(2, "mcpdoc", "--urls", "Tea:" + place.at("llms.txt")),
            revisions=BOTH,
            files={"llms.txt": "# Tea\n"},
            calls=[
                ("list_doc_sources", {}),
                ("fetch_docs", {"url": place.at("llms.txt")}),
                ("fetch_docs", {"url": place.at("none.txt")}),
            ],
        ),
        Member(
            "random",
            place.python(1, "random-mcp"),
            calls=[
                ("generate_random_int", {"min_value": 3, "max_value": 3}),
                ("generate_random_int", {"min_value": 3, "max_value": 2}),
                ("generate_random_string", {"length": 0}),
            ],
        ),
        Member(
            "cli",
            place.python(1, "cli-mcp-server"),
            env={"ALLOWED_DIR": folder},
            files={"tea.txt": "hot\n"},
            calls=[
                ("show_security_rules", {}),
                ("run_command", {"command": "cat tea.txt"}),
                ("run_command", {"command": "rm tea.txt"}),
            ],
        ),
        Member(
            "gnomon",
            place.python(1, "gnomon-mcp"),
            calls=[
                ("calc", {"expressions": ["2**100", "0.1+0.2", "1/0"]}),
                ("calc_convert", {"value": 1, "from_unit": "meter", "to_unit": "foot"}),
                (
                    "calendar",
                    {"ops": [{"op": "weekday", "date": "2026-01-01"}, {"op": "none"}]},
                ),
            ],
        ),
        Member(
            "notes",
            place.python(1, "notes"),
            calls=[
                ("add-note", {"name": "tea", "content": "hot"}),
                ("list-all-notes", {}),
                ("update-note", {"name": "none", "content": "cold"}),
            ],
            prompts=[("summarize-notes", {"style": "brief"})],
        ),
        Member(
            "forms",
            place.python(1, "interactive-ui-server"),
            calls=[
                (
                    "create_chart",
                    {
                        "chart_type": "bar",
                        "data": {
                            "labels": ["z", "a"],
                            "datasets": [{"values": [10, 2.5], "label": "s"}],
                        },
                    },
                ),
                ("create_form", {"title": "Tea", "fields": [{"type": "text", "label": "Cup"}]}),
                ("create_table", {"headers": ["z", "a"], "rows": [[1, "b"], [None, 2.0]]}),
                ("create_chart", {"chart_type": "none", "data": {}}),
            ],
        ),
    ]
