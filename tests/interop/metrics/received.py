"""A collector of OpenTelemetry spans (rotel), and what it has received, as it forwards it."""

import gzip
import http.server
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import rotel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span:
    def __init__(self, service: str, span: object) -> None:
        self.service, self.name, self.kind = service, span.name, span.kind
        self.trace, self.id = span.trace_id.hex(), span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.attributes = {it.key: it.value.string_value or it.value.int_value for it in span.attributes}


class Received:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def children(self, of: Span) -> list[Span]:
        return [span for span in self.spans if span.trace == of.trace and span.parent == of.id]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            names = {it.key: it.value.string_value for it in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [Span(names.get("service.name", ""), span) for span in scope.spans]

    def until(self, wanted: object, limit: float = 20) -> None:
        end = time.monotonic() + limit
        while not wanted():
            assert time.monotonic() < end, [(span.service, span.name) for span in self.spans]
            time.sleep(0.05)


def receiver(received: Received) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.take(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def collector(port: int, grpc_port: int, log: Path):
    """Runs the collector at a port, and yields what it receives."""
    received = Received()
    server = receiver(received)
    agent = Path(rotel.__file__).parent / "rotel-agent"
    command = [str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}", "--exporter", "otlp"]
    command += ["--otlp-exporter-endpoint", f"http://127.0.0.1:{server.server_port}"]
    command += ["--otlp-exporter-protocol", "http"]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield received
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
