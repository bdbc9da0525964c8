"""The differences between a server and the same server behind the gateway that are allowed.

Each is named as narrowly as can be, by the step, the path and the kind, and never by the server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from compare import Difference


@dataclass(frozen=True)
class Rule:
    step: str
    path: str
    kind: str
    reason: str
    also: Callable[[Difference], bool] = lambda _: True

    def allows(self, difference: Difference) -> bool:
        return (
            re.fullmatch(self.step, difference.step) is not None
            and re.fullmatch(self.path, difference.path) is not None
            and re.fullmatch(self.kind, difference.kind) is not None
            and self.also(difference)
        )


A_HOP = "by design: each hop is a connection of its own"

RULES = [
    Rule(
        "initialize",
        r"result\.protocolVersion",
        "value",
        "by design: the gateway agrees on a revision with its caller and with the server",
    ),
    Rule(
        "server/discover",
        r"result\.supportedVersions(\[\d+\])?",
        "value|added",
        "by design: the gateway speaks each revision to its caller, whatever the server speaks",
    ),
    Rule(
        "heard notifications/(tools|prompts|resources)/list_changed",
        "",
        "absent|added",
        "by design: a list that changes before the session listens has not been read yet",
    ),
    Rule(
        "ping( at the end)?", "error|result", "absent|added", f"{A_HOP}, and answers pings itself"
    ),
    Rule(
        "sent .*",
        r"_meta\.progressToken",
        "value|number|type",
        f"{A_HOP}, and has progress tokens of its own",
    ),
    Rule(
        "sent .*",
        r"_meta\.io\.modelcontextprotocol/clientInfo(\..*)?",
        "value|absent|added|order",
        f"{A_HOP}, whose client is the gateway",
    ),
    Rule(
        ".*",
        ".*",
        "surrogate",
        "by design: half of a surrogate pair is no character, and U+FFFD stands in its place",
    ),
    Rule(
        "tasks/(get|cancel)",
        r"error\.message",
        "value",
        "by design: a gateway seals the ids of tasks, and refuses an id that it has not given",
        lambda difference: "taskId" in difference.gateway,
    ),
    Rule(
        "unsubscribe",
        "error|result",
        "absent|added",
        "by design: what was never subscribed to is unsubscribed from without asking the server",
    ),
]


def reason_for(difference: Difference) -> str | None:
    """Why the difference is allowed, if it is."""
    return next((rule.reason for rule in RULES if rule.allows(difference)), None)
