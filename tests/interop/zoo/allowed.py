"""The differences between a server and the same server behind the gateway that are allowed.

Each is named as narrowly as can be, by the step, the path and the kind, and never by the server.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from compare import Difference
from probe import Obj


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


def is_single_precision(difference: Difference) -> bool:
    """A number that rmcp's types keep in 32 bits."""
    bare, gateway = float(difference.bare), float(difference.gateway)
    return struct.unpack("f", struct.pack("f", bare))[0] == gateway


def is_same_number(difference: Difference) -> bool:
    return float(difference.bare) == float(difference.gateway)


# Objects whose fields the protocol names, which rmcp writes in an order of its own. JSON of the
# server's own making is not among them: schemas, arguments, structured content, `_meta`.
OF_THE_PROTOCOL = "|".join(
    [
        r"result(\.capabilities(\.\w+)?|\.serverInfo|\.completion)?",
        r"result\.(tools|resources|resourceTemplates)\[\d+\](\.annotations)?",
        r"result\.prompts\[\d+\](\.arguments\[\d+\])?",
        r"result\.contents\[\d+\]",
        r"result\.(content\[\d+\]|messages\[\d+\](\.content)?)(\.annotations|\.resource)?",
        r"error",
    ]
)
OF_A_MESSAGE = "|".join(
    [
        r"\[\d+\](\.messages\[\d+\](\.content)?)?",
        # One field of a form; not the fields among each other.
        r"\[\d+\]\.requestedSchema(\.properties\.\w+)?",
    ]
)
ORDER = "rmcp's types write the fields of the protocol's own objects in an order of their own"
A_HOP = "by design: each hop is a connection of its own"
DROPPED = "rmcp's types drop fields that they do not know"
TASKS = f"{DROPPED}: tasks of 2025-11-25"
RELATED_TASK = "io.modelcontextprotocol/related-task"

RULES = [
    # By design.
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
    # What rmcp's types do not carry yet.
    Rule("(?!heard |sent ).*", OF_THE_PROTOCOL, "order", ORDER),
    Rule("heard .*", OF_A_MESSAGE, "order", ORDER),
    Rule("sent .*", r"ref|argument|_meta|", "order", ORDER),
    Rule("initialize", r"result\.capabilities\.tasks", "absent", TASKS),
    Rule("tools/list", r"result\.tools\[\d+\]\.execution", "absent", TASKS),
    Rule("task .*|tasks/.*|heard notifications/tasks/.*", ".*", ".*", TASKS),
    Rule("sent tools/call .*", "task", "absent", TASKS),
    Rule(
        "heard elicitation/create",
        r"\[\d+\]",
        "absent",
        TASKS,
        lambda difference: RELATED_TASK in dict(difference.bare.get("_meta", Obj())),
    ),
    Rule(
        "initialize", r"result\.capabilities\.tools\.\w+", "absent", f"{DROPPED}: in capabilities"
    ),
    Rule("initialize", r"result\.serverInfo\.\w+", "absent", f"{DROPPED}: in `serverInfo`"),
    Rule(
        "tools/list",
        r"result\.tools\[\d+\]\.annotations\.\w+",
        "absent",
        f"{DROPPED}: in a tool's annotations",
    ),
    Rule("prompts/list", r"result\.prompts\[\d+\]\.\w+", "absent", f"{DROPPED}: of a prompt"),
    Rule(
        "call .*",
        r"result\.content\[\d+\]\.(name|error)",
        "absent",
        f"{DROPPED}: of a block of text",
    ),
    Rule(
        "call .*|(bad|missing|no) arguments",
        r"result\.tools",
        "absent",
        f"{DROPPED}: beside the content of a tool's result",
        lambda difference: difference.bare == [],
    ),
    Rule(
        "prompts/list",
        r"result\.prompts\[\d+\]\.arguments\[\d+\]\.(type|default)",
        "absent",
        f"{DROPPED}: of a prompt's argument",
    ),
    Rule(
        ".*",
        r".*(annotations\.priority|\.temperature)",
        "number",
        "rmcp's types keep priority and temperature in 32 bits",
        is_single_precision,
    ),
    Rule(
        "heard notifications/progress",
        r"\[\d+\]\.(progress|total)",
        "number",
        "rmcp's types write a whole number as 1.0",
        is_same_number,
    ),
    Rule(
        "heard elicitation/create",
        r"\[\d+\]\.requestedSchema\.properties\.\w+\.(minimum|maximum)",
        "number",
        "rmcp's types write a whole number as 1.0",
        is_same_number,
    ),
    Rule(
        "heard elicitation/create",
        r"\[\d+\]\.mode",
        "added",
        "rmcp's types write out the default mode of an elicitation",
        lambda difference: difference.gateway == "form",
    ),
    Rule(
        "heard roots/list",
        r"\[\d+\]",
        "type",
        "rmcp's types leave out empty parameters",
        lambda difference: difference.bare == Obj() and difference.gateway is None,
    ),
    # What is known of descriptions.
    Rule(
        "server/discover",
        r"result\.(ttlMs|cacheScope)",
        "number|value",
        "an upstream describes its server without the server's own hints for caches",
    ),
    # What is known of subscriptions.
    Rule(
        "unsubscribe",
        "error|result",
        "absent|added",
        "what was never subscribed to is unsubscribed from without asking the server",
    ),
]


def reason_for(difference: Difference) -> str | None:
    """Why the difference is allowed, if it is."""
    return next((rule.reason for rule in RULES if rule.allows(difference)), None)
