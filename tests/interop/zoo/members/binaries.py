"""Servers that are written in Go, Rust and C#, as npm has them."""

import platform

from .member import Member, Place


def binaries(place: Place) -> list[Member]:
    moment = "2026-01-01T12:00:00Z"
    found = [
        Member(
            "fabric",
            place.script("@microsoft/fabric-mcp/index.js", "server", "start", "--mode", "all"),
            env={"AZURE_MCP_COLLECT_TELEMETRY": "false"},
            calls=[
                ("docs_list-item-types", {}),
                ("docs_best-practices", {"topic": "pagination"}),
                ("docs_item-definitions", {"item-type": "none"}),
            ],
        ),
    ]
    # These are there for this processor only.
    if platform.machine() == "x86_64":
        found += [
            # Go.
            Member(
                "time-go",
                [str(place.packages / "mcp-time-linux-x64/bin/mcp-time")],
                calls=[
                    (
                        "convert_timezone",
                        {
                            "time": moment,
                            "input_timezone": "UTC",
                            "output_timezone": "Asia/Tokyo",
                        },
                    ),
                    ("add_time", {"time": moment, "duration": "1h30m"}),
                    ("compare_time", {"time_a": moment, "time_b": "2026-01-02T00:00:00Z"}),
                    ("add_time", {"time": moment, "duration": "never"}),
                ],
            ),
            # Rust, without an SDK. It answers notifications too.
            Member(
                "specs",
                [str(place.packages / "@leanspec/mcp-linux-x64/leanspec-mcp")],
                calls=[
                    ("get_schema", {}),
                    (
                        "create_spec",
                        {"title": "Tea", "created": "2026-01-01", "status": "draft"},
                    ),
                    ("list_specs", {}),
                    ("validate_spec", {}),
                    ("get_spec", {"id": "none"}),
                ],
            ),
        ]
    return found
