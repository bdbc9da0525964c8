"""The gateway's metrics, its traces and its status page.

main.py GATEWAY SCRATCH CHROMIUM

A scrape is read by prometheus_client, traces by a collector, and the page by Chromium.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import anyio
from checks import Checks, connected, text
from opentelemetry import trace
from playwright.async_api import async_playwright
from prometheus_client.parser import text_string_to_metric_families
from received import Received, collector
from shared import free_port
from telemetry import send_spans

HERE = Path(__file__).parent
SIZES = [("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)]


class Gateway:
    """The gateway in front of a Python server, of a Rust one, and of one that is down."""

    def __init__(self, command: str, scratch: Path, collector_port: int) -> None:
        self.port, self.admin, self.scratch = free_port(), free_port(), scratch
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        config = scratch / "gateway.toml"
        inherit = 'inherit_env = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_BSP_SCHEDULE_DELAY"]'
        config.write_text(
            f'listen = "127.0.0.1:{self.port}"\n[admin]\nlisten = "127.0.0.1:{self.admin}"\n'
            f'[progress]\n[breaker]\nfailures = 2\n[cache]\ntools = {{ python__add = 60 }}\n'
            f"[budget]\ntotal_tokens = 1000000\n"
            f'[servers.python]\ncommand = "{sys.executable}"\nargs = ["{HERE / "server.py"}"]\n{inherit}\n'
            f'[servers.rust]\ncommand = "{command}"\nargs = ["--stdio"]\n{inherit}\n'
            f'env = {{ OTEL_SERVICE_NAME = "rust-upstream" }}\n'
            f'[servers.down]\nurl = "http://127.0.0.1:{free_port()}/mcp"\n'
        )
        endpoint = f"http://127.0.0.1:{collector_port}"
        self.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with open(scratch / "gateway.log", "wb") as log:
            self.process = subprocess.Popen(
                [command, "--config", str(config)], stdout=log, stderr=log, env=os.environ | self.environment
            )

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    async def ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if self.get("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            await anyio.sleep(0.1)
        raise TimeoutError("the gateway is not ready")

    def samples(self) -> list:
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return [sample for family in families for sample in family.samples]

    def status(self) -> dict:
        return json.loads(self.get("/status.json")[1])


def total(samples: list, name: str, **labels: str) -> float:
    fits = lambda sample: sample.name == name and labels.items() <= sample.labels.items()
    return sum(sample.value for sample in samples if fits(sample))


async def scrapes(checks: Checks, gateway: Gateway, client: object) -> None:
    count = "mcp_server_operation_duration_seconds_count"

    async def counted() -> None:
        before = gateway.samples()
        for _ in range(3):
            assert text(await client.call_tool("python__add", {"a": 1, "b": 2})) == "3"
        assert (await client.call_tool("python__fail", {})).is_error
        after = gateway.samples()
        for labels, calls in [({"gen_ai_tool_name": "python__add"}, 3), ({"error_type": "tool_error"}, 1)]:
            assert total(after, count, **labels) - total(before, count, **labels) == calls, labels
        hits = "rmcp_layers_cache_hits_total"
        assert total(after, hits) - total(before, hits) >= 2

    async def bounds() -> None:
        bucket = "mcp_server_operation_duration_seconds_bucket"
        found = {sample.labels["le"] for sample in gateway.samples() if sample.name == bucket}
        assert {"0.01", "0.5", "300", "+Inf"} <= {bound.removesuffix(".0") for bound in found}, found

    async def guarded() -> None:
        assert gateway.get("/healthz") == (200, "ok\n")
        assert gateway.get("/status", Host="evil.example")[0] == 403
        # Probes of orchestrators name an address, which no other site can take.
        assert gateway.get("/readyz", Host="10.1.2.3:9464")[0] == 200
        states = {it["name"]: it["state"] for it in gateway.status()["members"]}
        assert states["python"] == "connected" and states["down"] != "connected", states

    await checks.check("scrape", counted)
    await checks.check("bounds", bounds)
    await checks.check("admin address", guarded)


async def traces(checks: Checks, received: Received, client: object) -> None:
    tracer = trace.get_tracer("interop")

    async def one_trace(member: str, service: str) -> None:
        with tracer.start_as_current_span(f"step of {member}") as step:
            assert text(await client.call_tool(f"{member}__add", {"a": 20, "b": int(time.time())}))
        wanted = f"{step.get_span_context().trace_id:032x}"

        def in_trace() -> dict:
            spans = [span for span in received.spans if span.trace == wanted]
            return {(span.service, span.kind): span for span in spans if "tools/call" in span.name}

        await anyio.to_thread.run_sync(lambda: received.until(lambda: len(in_trace()) >= 4))
        spans = in_trace()
        # 2 is a server's kind, 3 a client's. The session is still open.
        order = [("python-client", 3), ("gateway", 2), ("gateway", 3), (service, 2)]
        for outer, inner in zip(order, order[1:]):
            assert spans[inner].parent == spans[outer].id, (inner, outer)
        assert spans["gateway", 2].attributes["client.address"] == "127.0.0.1"
        upstream = spans["gateway", 3].attributes
        assert upstream["rmcp_layers.upstream"] == member and upstream["network.transport"] == "pipe"

    await checks.check("trace to python", lambda: one_trace("python", "python-upstream"))
    await checks.check("trace to rust", lambda: one_trace("rust", "rust-upstream"))

    async def roots() -> None:
        own = [span for span in received.spans if span.service == "gateway" and span.kind == 2]
        without = [span for span in own if not span.parent]
        assert len({span.trace for span in without}) == len(without), "roots share a trace"

    await checks.check("roots", roots)


async def page(checks: Checks, gateway: Gateway, client: object, chromium: str) -> None:
    errors: list[str] = []

    async def opened(scheme: str, width: int) -> None:
        context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        tab = await context.new_page()
        tab.on("console", lambda it: errors.append(it.text) if it.type == "error" else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        await tab.goto(f"http://127.0.0.1:{gateway.admin}/status")
        await tab.wait_for_selector("#calls")
        for a in range(20):
            await client.call_tool("rust__add", {"a": a, "b": 1})
        await anyio.sleep(2.5)
        shown = int(await tab.inner_text("#calls"))
        assert shown == gateway.status()["callers"]["all"]["total"]["calls"]
        assert int(await tab.inner_text("#tokens")) == gateway.status()["budget"]["charged_tokens"] > 0
        assert "rust__add" in await tab.inner_text("#tools")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await tab.screenshot(path=gateway.scratch / f"status-{scheme}-{width}.png", full_page=True)
        assert not errors, errors
        await context.close()

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme, width in SIZES:
            await checks.check(f"page {scheme} {width}", lambda: opened(scheme, width))
        await browser.close()


async def main() -> None:
    command, scratch, chromium = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    checks = Checks("metrics")
    port = free_port()
    with collector(port, free_port(), scratch / "collector.log") as received:
        gateway = Gateway(command, scratch, port)
        os.environ |= gateway.environment
        provider = send_spans("python-client")
        try:
            await gateway.ready()
            async with connected(gateway.url, "legacy") as client:
                await client.list_tools()
                await scrapes(checks, gateway, client)
                await traces(checks, received, client)
                await page(checks, gateway, client, chromium)
        finally:
            gateway.process.terminate()
            gateway.process.wait()
            provider.shutdown()


anyio.run(main)
