"""A gateway that starts and ends, and what becomes of the processes it started.

ending.py GATEWAY SCRATCH

It needs no package: the servers are shell scripts, and the client is the lines below.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import below

# Answers `initialize`, `tools/list` and calls of `slow`; never answers calls of `hang`.
SERVER = r"""
answer() { echo '{"jsonrpc":"2.0","id":'"$id"',"result":'"$1"'}'; }
while read -r line; do
  id=${line##*\"id\":}
  id=${id%%[!0-9]*}
  case $line in
    *'"initialize"'*) answer '{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"0"}}' ;;
    *'"tools/list"'*) answer '{"tools":[{"name":"slow","inputSchema":{"type":"object"}},{"name":"hang","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*slow*) sleep 0.7; answer '{"content":[{"type":"text","text":"done"}]}' ;;
  esac
done
"""
# Ends neither when its input is closed nor by SIGTERM, and neither does what it started.
STUBBORN = "trap '' TERM; sleep 1000 & " + SERVER + "\nwhile :; do sleep 0.05; done"
# Hosts wait about as long before they kill a server.
PATIENCE = 4.0


def config(scratch: Path, servers: dict[str, str], more: str = "", each: str = "") -> Path:
    path = scratch / "ending.toml"
    text = more
    for name, script in servers.items():
        text += f"[servers.{name}]\ncommand = \"sh\"\nargs = ['-c', '''{script}''']\n{each}\n"
    path.write_text(text)
    return path


def alive(processes: set[int]) -> set[int]:
    running = set()
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            running.add(process)
    return running


@contextmanager
def run(command: list[str], **more: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **more
    )
    started: set[int] = set()
    try:
        yield process
    finally:
        started |= set(below(process.pid))
        if process.poll() is None:
            process.kill()
        process.wait()
        for left in alive(started):
            os.kill(left, signal.SIGKILL)


def send(process: subprocess.Popen[bytes], **message: object) -> None:
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[bytes], wanted: int) -> dict:
    while line := process.stdout.readline():
        message = json.loads(line)
        if message.get("id") == wanted:
            return message
    raise AssertionError("the gateway's output ended")


ABOUT = {
    "protocolVersion": "2025-11-25",
    "clientInfo": {"name": "ending", "version": "0"},
    "capabilities": {},
}


def begin(process: subprocess.Popen[bytes], servers: int) -> set[int]:
    """Begins a session, and returns the processes that the gateway has started by then."""
    send(process, id=0, method="initialize", params=ABOUT)
    answer(process, 0)
    send(process, method="notifications/initialized")
    send(process, id=1, method="tools/list")
    tools = answer(process, 1)["result"]["tools"]
    assert len([tool for tool in tools if "hang" in tool["name"]]) == servers, tools
    return set(below(process.pid))


def ends(process: subprocess.Popen[bytes], children: set[int], within: float) -> None:
    begun = time.monotonic()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it runs after {within} s") from None
    took = time.monotonic() - begun
    # One that was killed has a moment to end.
    time.sleep(0.2)
    left = alive(children)
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert not left, f"{len(left)} of {len(children)} processes are left after {took:.1f} s"


def the_host_leaves(gateway: str, scratch: Path) -> None:
    file = config(scratch, dict.fromkeys("abc", STUBBORN))
    with run([gateway, "--stdio", "--config", str(file)]) as process:
        children = begin(process, 3)
        process.stdin.close()
        ends(process, children, PATIENCE)


def the_host_leaves_during_the_handshake(gateway: str, scratch: Path) -> None:
    silent = "trap '' TERM; sleep 1000 & while read -r line; do :; done; while :; do sleep 0.05; done"
    file = config(scratch, {"a": silent, "b": silent, "c": SERVER})
    with run([gateway, "--stdio", "--config", str(file)]) as process:
        send(process, id=0, method="initialize", params=ABOUT)
        time.sleep(0.5)
        children = set(below(process.pid))
        process.stdin.close()
        ends(process, children, PATIENCE)


def the_host_leaves_during_a_call(gateway: str, scratch: Path) -> None:
    file = config(scratch, dict.fromkeys("abc", STUBBORN))
    with run([gateway, "--stdio", "--config", str(file)]) as process:
        children = begin(process, 3)
        send(process, id=2, method="tools/call", params={"name": "a__hang", "arguments": {}})
        time.sleep(0.2)
        process.stdin.close()
        ends(process, children, PATIENCE)


def the_host_leaves_answers_unread(gateway: str, scratch: Path) -> None:
    file = config(scratch, dict.fromkeys("ab", SERVER))
    with run([gateway, "--stdio", "--config", str(file)]) as process:
        children = begin(process, 2)
        for number in range(2, 1_000):
            send(process, id=number, method="tools/list")
        time.sleep(0.3)
        process.stdin.close()
        ends(process, children, PATIENCE)


def an_answer_is_written_after_the_host_has_closed_the_input(gateway: str, scratch: Path) -> None:
    file = config(scratch, {"a": SERVER})
    with run([gateway, "--stdio", "--config", str(file)]) as process:
        begin(process, 1)
        send(process, id=2, method="tools/call", params={"name": "slow", "arguments": {}})
        time.sleep(0.1)
        process.stdin.close()
        assert answer(process, 2)["result"]["content"][0]["text"] == "done"


def a_signal_while_closing(gateway: str, scratch: Path) -> None:
    file = config(scratch, dict.fromkeys("abc", STUBBORN))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with run([gateway, "--stdio", "--config", str(file)]) as process:
            children = begin(process, 3)
            process.stdin.close()
            time.sleep(0.5)
            process.send_signal(number)
            ends(process, children, 0.5)


def every_signal(gateway: str, scratch: Path) -> None:
    file = config(scratch, dict.fromkeys("abc", STUBBORN))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with run([gateway, "--stdio", "--config", str(file)]) as process:
            children = begin(process, 3)
            process.send_signal(number)
            ends(process, children, PATIENCE)
            assert process.returncode == 0, (number, process.returncode)


def a_hangup_that_is_ignored(gateway: str, scratch: Path) -> None:
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    file = config(scratch, {"a": SERVER})
    with run([gateway, "--stdio", "--config", str(file)], preexec_fn=ignore) as process:
        begin(process, 1)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        send(process, id=2, method="tools/call", params={"name": "slow", "arguments": {}})
        assert answer(process, 2)["result"]["content"][0]["text"] == "done"


def settings_that_cannot_work(gateway: str, scratch: Path) -> None:
    server = '[servers.a]\ncommand = "sh"\n'
    auth = '[auth]\nissuer = "https://i.example"\naudience = "https://g.example"\n'
    for text, named in (
        ('[servers.a]\ncommand = ""\n', "`command`"),
        (server + 'env = { "A=B" = "c" }\n', "`env`"),
        ('[servers.a]\nurl = "nowhere"\n', "`url`"),
        ('[servers."a b"]\ncommand = "sh"\n[servers.c]\ncommand = "sh"\n', "`prefix`"),
        ('allowed_hosts = ["http://mcp.example"]\n' + server, "`allowed_hosts`"),
        ("max_in_flight = 4\nmax_in_flight_per_caller = 5\n" + server, "`max_in_flight_per_caller`"),
        (auth + 'jwks_url = "nowhere"\n', "`jwks_url`"),
        (auth + 'secret_env = "HOME"\n', "`secret_env`"),
    ):
        file = scratch / "ending.toml"
        file.write_text(text)
        refused = subprocess.run(
            [gateway, "--config", str(file), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=5
        )
        assert refused.returncode == 1 and named in refused.stderr, (text, refused)


def the_gateways_secrets(gateway: str, scratch: Path) -> None:
    note = scratch / "environment"
    note.unlink(missing_ok=True)
    auth = '[auth]\nissuer = "https://i.example"\naudience = "https://g.example"\nunmatched = "use"\n'
    auth += 'secret_env = "GATEWAY_SECRET"\ntoken_env = "GATEWAY_TOKEN"\n'
    for each, others in (("", False), ("inherit_all_env = true", True)):
        file = config(scratch, {"a": f"env > {note}.new; mv {note}.new {note}\n{SERVER}"}, auth, each)
        secrets = {"GATEWAY_SECRET": "s" * 64, "GATEWAY_TOKEN": token("s" * 64), "OTHER": "other"}
        with run([gateway, "--stdio", "--config", str(file)], env={**os.environ, **secrets}) as process:
            begin(process, 1)
            environment = note.read_text()
            names = {line.partition("=")[0] for line in environment.splitlines()}
            assert not names & secrets.keys() - {"OTHER"}, names
            assert ("OTHER" in names) == others, names
    file = config(scratch, {"a": SERVER}, auth, 'inherit_env = ["GATEWAY_SECRET"]')
    refused = subprocess.run(
        [gateway, "--config", str(file)], capture_output=True, text=True, env={**os.environ, **secrets}, timeout=5
    )
    assert refused.returncode != 0 and "GATEWAY_SECRET" in refused.stderr, refused


def token(secret: str) -> str:
    import base64
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"iss": "https://i.example", "aud": "https://g.example", "sub": "me", "scope": "use"}
    claims |= {"exp": int(time.time()) + 600, "iat": int(time.time())}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return signed + "." + part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())


def a_server_that_ends_at_once(gateway: str, scratch: Path) -> None:
    servers = {"bad": "echo 'password: hunter2' >&2; exit 3", "good": SERVER}
    with run([gateway, "--stdio", "--config", str(config(scratch, servers))]) as process:
        begin(process, 1)
        send(process, id=2, method="tools/call", params={"name": "bad__any", "arguments": {}})
        said = json.dumps(answer(process, 2))
        assert "exit status: 3" in said and "hunter2" not in said, said
        call = {"name": "gateway__status", "arguments": {}}
        send(process, id=3, method="tools/call", params=call)
        status = json.dumps(answer(process, 3))
        assert "exit status: 3" in status and "hunter2" in status, status


def the_only_server_is_down(gateway: str, scratch: Path) -> None:
    servers = {"bad": "exit 3"}
    with run([gateway, "--stdio", "--config", str(config(scratch, servers))]) as process:
        begin(process, 0)
        call = {"name": "gateway__status", "arguments": {}}
        send(process, id=2, method="tools/call", params=call)
        status = json.dumps(answer(process, 2))
        assert "exit status: 3" in status, status


def what_will_not_work(gateway: str, scratch: Path) -> None:
    file = scratch / "ending.toml"
    file.write_text(f"""
[servers.command]
command = "no-such-command"
[servers.file]
command = "{scratch}/no-such-file"
[servers.directory]
command = "sh"
cwd = "{scratch}/no-such-directory"
[servers.remote]
url = "http://127.0.0.1:9/mcp"
[servers.well]
command = "sh"
[cache]
redis = "redis://127.0.0.1:9"
[auth]
issuer = "https://i.example"
audience = "https://g.example"
jwks_url = "http://127.0.0.1:9/keys"
""")
    process = subprocess.Popen(
        [gateway, "--config", str(file), "--listen", "127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    time.sleep(1)
    process.terminate()
    said = process.communicate(timeout=10)[1].decode()
    lines = [line for line in said.splitlines() if line.startswith("gateway: [")]
    for about in ("servers.command", "servers.file", "servers.directory", "servers.remote", "cache", "auth"):
        assert len([line for line in lines if f"[{about}]" in line]) == 1, (about, said)
    assert "servers.well" not in said, said


def half_a_request(gateway: str, scratch: Path) -> None:
    file = config(scratch, {"a": SERVER}, "max_connections = 40\n")
    with run([gateway, "--config", str(file), "--listen", "127.0.0.1:0"]) as process:
        while b"listening on " not in (line := process.stdout.readline()):
            pass
        port = int(line.rsplit(b":", 1)[1].split(b"/")[0])
        head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += b"Accept: application/json, text/event-stream\r\n"
        halves = [b"", b"P", b"PRI * HTTP/2.0\r\n"] * 5 + [head] * 15
        halves += [head + b"Content-Length: 99\r\n\r\n{"] * 20
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in halves]
        for connection, half in zip(connections, halves, strict=True):
            connection.sendall(half)
        begun = time.monotonic()
        # One more waits until there is room, and is served then.
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": ABOUT}).encode()
        whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        served = socket.create_connection(("127.0.0.1", port), timeout=30)
        served.sendall(whole)
        assert b"200 OK" in served.recv(100)
        assert time.monotonic() - begun < 30
        for connection in connections:
            connection.settimeout(100)
            while connection.recv(4096):
                pass
        assert time.monotonic() - begun < 90


STEPS: dict[str, Callable[[str, Path], None]] = {
    "stdio every server is gone when the host has left": the_host_leaves,
    "stdio a handshake that waits for servers does not hold that up": the_host_leaves_during_the_handshake,
    "stdio a call that hangs does not hold that up": the_host_leaves_during_a_call,
    "stdio nor do answers that are not read": the_host_leaves_answers_unread,
    "stdio an answer is written after the end of the input": an_answer_is_written_after_the_host_has_closed_the_input,
    "stdio a signal while closing ends it at once": a_signal_while_closing,
    "stdio SIGINT, SIGTERM, SIGHUP and SIGQUIT end it and every server": every_signal,
    "stdio a SIGHUP that it was started to ignore is ignored": a_hangup_that_is_ignored,
    "stdio no server has the gateway's secrets": the_gateways_secrets,
    "stdio a server that ends at once is told with its status": a_server_that_ends_at_once,
    "stdio the status is served while the only server is down": the_only_server_is_down,
    "http half a request does not keep others out": half_a_request,
    "http what will not work is told at the start": what_will_not_work,
    "http a setting that cannot work is named": settings_that_cannot_work,
}


def main(gateway: str, scratch: str, *only: str) -> int:
    # The gateway ignores it if it is started so, and that is inherited, as from `nohup`.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    failed = 0
    for name, step in STEPS.items():
        if only and not any(word in name for word in only):
            continue
        try:
            step(gateway, Path(scratch))
            print(f"ok ending {name}", flush=True)
        except Exception as error:  # noqa: BLE001 # However it ends, it is told.
            failed += 1
            print(f"FAIL ending {name} {type(error).__name__} {error}", flush=True)
    return failed


sys.exit(main(*sys.argv[1:]))
