"""Raw JSON-RPC over stdio, without an SDK: one session with one server, written down as it came.

JSON is read so that nothing of it is lost: an object is an `Obj`, its pairs in their order, and a
number is a `Number`, its digits as they were written.
"""

import json
import queue
import subprocess
import threading
import time
from pathlib import Path

from members import Member

ANSWER_LIMIT = 20
# Pages after which a list counts as endless.
PAGE_LIMIT = 20
# The methods that list something, and the names of their lists.
LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "prompts/list": "prompts",
}


class Obj(tuple):
    """A JSON object: its pairs, in the order in which they came."""

    def get(self, name: str, default: object = None) -> object:
        return next((value for key, value in self if key == name), default)

    def without(self, *names: str) -> "Obj":
        return Obj(pair for pair in self if pair[0] not in names)


class Number(str):
    """A JSON number, as it was written."""


def read_json(text: str) -> object:
    return json.loads(
        text, object_pairs_hook=Obj, parse_int=Number, parse_float=Number, parse_constant=Number
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


class Ended(Exception):
    """The server closed its standard output."""


class Session:
    """A server's process and what it said."""

    def __init__(self, command: list[str], env: dict[str, str], scratch: Path, log: Path) -> None:
        self.scratch = scratch
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.last_id = 0
        # What the server said of its own accord, by method: the parameters, in order.
        self.heard: dict[str, list[object]] = {}
        self.answers: dict[int, Obj] = {}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=scratch,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.decode("utf-8", "replace"))
        self.lines.put(None)

    def send(self, message: dict[str, object]) -> None:
        try:
            self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Ended from error

    def request(self, method: str, params: dict[str, object]) -> Obj:
        """The `result` or `error` of one request, as an object of that one pair."""
        self.last_id += 1
        wanted = self.last_id
        self.send({"id": wanted, "method": method, "params": params})
        deadline = time.monotonic() + ANSWER_LIMIT
        while wanted not in self.answers:
            if not self._hear(deadline - time.monotonic()):
                return Obj([("silent", f"no answer in {ANSWER_LIMIT} s")])
        return self.answers.pop(wanted)

    def settle(self, quiet: float) -> None:
        """Hears what still comes, until nothing has come for so many seconds."""
        deadline = time.monotonic() + 5
        while self._hear(min(quiet, deadline - time.monotonic())):
            pass

    def _hear(self, limit: float) -> bool:
        try:
            line = self.lines.get(timeout=max(limit, 0))
        except queue.Empty:
            return False
        if line is None:
            raise Ended
        try:
            message = read_json(line)
        except ValueError:
            return True  # Some servers print more than messages.
        if not isinstance(message, Obj):
            return True
        method, id_ = message.get("method"), message.get("id")
        if method is None:
            parts = [pair for pair in message if pair[0] in ("result", "error")]
            self.answers[int(id_) if isinstance(id_, Number) else 0] = Obj(parts)
            return True
        self.heard.setdefault(method, []).append(message.get("params"))
        if id_ is not None:
            id_ = int(id_) if isinstance(id_, Number) else id_
            self.send({"id": id_, **self._answer(method, message.get("params"))})
        return True

    def _answer(self, method: str, params: object) -> dict[str, object]:
        match method:
            case "roots/list":
                return {"result": {"roots": [{"uri": f"file://{self.scratch}", "name": "scratch"}]}}
            case "sampling/createMessage":
                content = {"type": "text", "text": "a thought"}
                return {"result": {"role": "assistant", "content": content, "model": "none"}}
            case "elicitation/create":
                fields = params.get("requestedSchema", Obj()).get("properties", Obj())
                strings = [name for name, field in fields if field.get("type") == "string"]
                return {"result": {"action": "accept", "content": dict.fromkeys(strings, "blue")}}
            case "ping":
                return {"result": {}}
        return {"error": {"code": -32601, "message": "method not found"}}

    def close(self) -> None:
        """Ends the server as the specification says, and by force if that does not help."""
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Transcript:
    """One member's script, played in one revision: each step's answer by the step's name."""

    def __init__(self, session: Session, revision: str) -> None:
        self.session = session
        self.revision = revision
        self.steps: dict[str, object] = {}

    @property
    def is_modern(self) -> bool:
        return self.revision >= "2026"

    def step(self, name: str, method: str, params: dict[str, object] | None = None) -> Obj:
        self.steps[name] = answer = self.ask(method, params or {})
        return answer

    def ask(self, method: str, params: dict[str, object]) -> Obj:
        if self.is_modern:
            meta = {
                "io.modelcontextprotocol/protocolVersion": self.revision,
                "io.modelcontextprotocol/clientInfo": {"name": "zoo", "version": "0.0.0"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": {**params.get("_meta", {}), **meta}}
        return self.session.request(method, params)

    def begin(self) -> Obj:
        if self.is_modern:
            return self.step("server/discover", "server/discover")
        answer = self.step(
            "initialize",
            "initialize",
            {
                "protocolVersion": self.revision,
                # All that the gateway declares to its servers.
                "capabilities": {
                    "roots": {"listChanged": True},
                    "sampling": {},
                    "elicitation": {"form": {}, "url": {}},
                },
                "clientInfo": {"name": "zoo", "version": "0.0.0"},
            },
        )
        self.session.send({"method": "notifications/initialized"})
        # Servers ask for the roots now, and take up the answer in their own time.
        self.step("ping", "ping")
        self.session.settle(0.5)
        return answer

    def list_all(self, method: str, items: str) -> list[Obj]:
        """All pages of a list, as one answer: the first page, with the items of all."""
        page = self.step(method, method)
        first, found, pages = page.get("result"), [], 1
        while isinstance(page.get("result"), Obj):
            found += page.get("result").get(items) or []
            cursor = page.get("result").get("nextCursor")
            if not cursor or pages == PAGE_LIMIT:
                break
            pages += 1
            page = self.ask(method, {"cursor": cursor})
        if isinstance(first, Obj):
            whole = [
                (key, found if key == items else value)
                for key, value in first.without("nextCursor")
            ]
            self.steps[method] = Obj([("result", Obj(whole))])
        return found

    def play(self, member: Member) -> None:
        self.begin()
        listed = {items: self.list_all(method, items) for method, items in LISTS.items()}
        tools, resources, prompts = (listed[of] for of in ("tools", "resources", "prompts"))
        for number, (tool, arguments) in enumerate(member.calls, 1):
            params = {
                "name": tool,
                "arguments": arguments,
                "_meta": {"progressToken": f"zoo-{number}"},
            }
            if arguments is None:
                del params["arguments"]
            if tool not in member.with_progress:
                del params["_meta"]
            self.step(f"call {number} {tool}", "tools/call", params)
        uris = [resource.get("uri") for resource in resources[: member.reads_listed]]
        for uri in [*uris, *member.reads]:
            self.step(f"read {uri}", "resources/read", {"uri": uri})
        for number, (prompt, arguments) in enumerate(member.prompts, 1):
            params = {"name": prompt, "arguments": arguments}
            self.step(f"prompt {number} {prompt}", "prompts/get", params)
        for number, (ref, argument) in enumerate(member.completions, 1):
            params = {"ref": ref, "argument": argument}
            self.step(f"completion {number}", "completion/complete", params)
        self._tasks(member)
        self._errors(tools, prompts)
        if not self.is_modern:
            self._legacy(resources)
        self.session.settle(0.3)
        for method, heard in sorted(self.session.heard.items()):
            # How many changes are told as one is a matter of time, without the gateway too.
            self.steps[f"heard {method}"] = heard[:1] if method.endswith("/list_changed") else heard

    def _tasks(self, member: Member) -> None:
        """Calls as tasks of 2025-11-25; the other revisions have none, or other ones."""
        if self.revision != "2025-11-25" or not member.tasks:
            return
        for number, (tool, arguments) in enumerate(member.tasks, 1):
            params = {"name": tool, "arguments": arguments, "task": {"ttl": 60000}}
            answer = self.step(f"task {number} {tool}", "tools/call", params)
            made = (answer.get("result") or Obj()).get("task")
            if not isinstance(made, Obj):
                continue
            task = {"taskId": made.get("taskId")}
            deadline = time.monotonic() + ANSWER_LIMIT
            status = "working"
            while status == "working" and time.monotonic() < deadline:
                time.sleep(0.3)
                state = self.step(f"task {number} state", "tasks/get", task)
                status = (state.get("result") or Obj()).get("status")
            self.step(f"task {number} result", "tasks/result", task)
        self.step("tasks/list", "tasks/list")
        self.step("tasks/get", "tasks/get", {"taskId": "none"})
        self.step("tasks/cancel", "tasks/cancel", {"taskId": "none"})

    def _errors(self, tools: list[Obj], prompts: list[Obj]) -> None:
        """Requests that no server can do as asked."""
        bad = {"zz": 1, "aa": [1.5, {"b": None, "a": "text"}]}
        self.step("unknown tool", "tools/call", {"name": "no_such_tool", "arguments": bad})
        needing = [tool for tool in tools if (tool.get("inputSchema") or Obj()).get("required")]
        if needing:
            name = needing[0].get("name")
            self.step("bad arguments", "tools/call", {"name": name, "arguments": bad})
            self.step("missing arguments", "tools/call", {"name": name, "arguments": {}})
            self.step("no arguments", "tools/call", {"name": name})
        self.step("unknown resource", "resources/read", {"uri": "zoo://nothing"})
        self.step("unknown prompt", "prompts/get", {"name": "no_such_prompt"})
        if prompts:
            self.step("prompt without arguments", "prompts/get", {"name": prompts[0].get("name")})
        ref = {"type": "ref/prompt", "name": "no_such_prompt"}
        argument = {"name": "nothing", "value": ""}
        self.step("unknown completion", "completion/complete", {"ref": ref, "argument": argument})
        self.step("unknown method", "zoo/unknown", {"z": 1, "a": {"y": 2, "b": 3}})

    def _legacy(self, resources: list[Obj]) -> None:
        self.step("log level", "logging/setLevel", {"level": "warning"})
        if resources:
            uri = {"uri": resources[0].get("uri")}
            self.step("subscribe", "resources/subscribe", uri)
            self.step("unsubscribe", "resources/unsubscribe", uri)
        self.step("ping at the end", "ping")

    @classmethod
    def of_session(
        cls,
        member: Member,
        command: list[str],
        env: dict[str, str],
        scratch: Path,
        revision: str,
        log: Path,
    ) -> dict[str, object]:
        """One session, from the first message to the last, as steps by name."""
        session = Session(command, env, scratch, log)
        transcript = cls(session, revision)
        try:
            transcript.play(member)
        except Ended:
            transcript.steps["ended"] = "the server closed its output"
        finally:
            session.close()
        return transcript.steps
