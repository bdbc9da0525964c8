"""The official Python client against the guarded gateway and its embedded demo server.

auth.py URL ISSUER AUDIT
"""

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from checks import Checks, connected, text
from mcp import Client, MCPError
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import AuthorizationCodeResult
from mcp.client.auth.utils import (
    extract_field_from_www_auth,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
)
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata, ProtectedResourceMetadata

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Storage:
    """Keeps in memory what the client wants kept."""

    def __init__(self) -> None:
        self.tokens = self.client = None

    async def get_tokens(self) -> object:
        return self.tokens

    async def set_tokens(self, tokens: object) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> object:
        return self.client

    async def set_client_info(self, client: object) -> None:
        self.client = client


class User:
    """Follows the authorization URL as a browser does, and brings back where it leads."""

    def __init__(self) -> None:
        self.came_back: dict[str, list[str]] = {}

    async def browse(self, url: str) -> None:
        async with httpx2.AsyncClient() as browser:
            response = await browser.get(url)
        self.came_back = parse_qs(urlsplit(response.headers["location"]).query)

    async def come_back(self) -> AuthorizationCodeResult:
        back = {name: values[0] for name, values in self.came_back.items()}
        return AuthorizationCodeResult(code=back["code"], state=back["state"], iss=back["iss"])


class Guarded:
    def __init__(self, url: str, issuer: str) -> None:
        self.url = url
        self.issuer = issuer

    async def made(self, subject: str, scope: str, **more: object) -> str:
        """A token without any flow."""
        query = {"sub": subject, "scope": scope, "more": json.dumps(more)}
        async with httpx2.AsyncClient() as http:
            return (await http.get(f"{self.issuer}/make", params=query)).json()

    async def asked(self) -> list[str]:
        async with httpx2.AsyncClient() as http:
            return (await http.get(f"{self.issuer}/asked")).json()

    @asynccontextmanager
    async def client(self, mode: str, **http: object) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(timeout=30, **http) as http_client:
            async with connected(streamable_http_client(self.url, http_client=http_client), mode) as client:
                yield client

    def bearer(self, mode: str, token: str) -> object:
        return self.client(mode, headers={"Authorization": f"Bearer {token}"})

    async def raw(self, token: str | None) -> httpx2.Response:
        headers = ACCEPT | ({"Authorization": f"Bearer {token}"} if token else {})
        async with httpx2.AsyncClient() as http:
            return await http.post(self.url, json=INITIALIZE, headers=headers)


async def tokens(checks: Checks, guarded: Guarded, mode: str) -> None:
    async def a_token_is_served() -> None:
        token = await guarded.made("ada", "calls")
        async with guarded.bearer(mode, token) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            # The list is filtered by the same rules.
            assert names == {"add"}, names
            assert "5" in text(await client.call_tool("add", {"a": 2, "b": 3}))

    async def refused(token: str | None, code: int) -> None:
        http = {"headers": {"Authorization": f"Bearer {token}"}} if token else {}
        try:
            async with guarded.client(mode, **http) as client:
                await client.list_tools()
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, MCPError), repr(error)
            assert error.error.code == code, error.error
        else:
            raise AssertionError("it was let in")

    async def no_token_is_refused() -> None:
        await refused(None, -31401)

    async def bad_tokens_are_refused() -> None:
        await refused("nonsense", -31401)
        await refused(await guarded.made("ada", "calls", aud="another"), -31401)
        await refused(await guarded.made("ada", "calls", exp=1), -31401)
        await refused(await guarded.made("ada", "calls", iss="https://another"), -31401)
        token = await guarded.made("ada", "calls")
        await refused(token[:-4] + "AAAA", -31401)

    async def a_missing_scope_is_said() -> None:
        async with guarded.bearer(mode, await guarded.made("bob", "calls")) as client:
            try:
                await client.call_tool("echo", {"text": "x"})
            except MCPError as error:
                assert error.error.code == -31403, error.error
                assert error.error.data["scopes"] == ["deep"], error.error
            else:
                raise AssertionError("it was let through")

    for step in (a_token_is_served, no_token_is_refused, bad_tokens_are_refused, a_missing_scope_is_said):
        await checks.check(step.__name__.replace("_", " "), step)


async def challenges(checks: Checks, guarded: Guarded) -> None:
    async def the_client_reads_the_401() -> None:
        response = await guarded.raw(None)
        assert response.status_code == 401, response
        where = extract_resource_metadata_from_www_auth(response)
        assert extract_scope_from_www_auth(response) == "calls", response.headers
        assert extract_field_from_www_auth(response, "error") is None, response.headers
        async with httpx2.AsyncClient() as http:
            metadata = ProtectedResourceMetadata.model_validate_json((await http.get(where)).content)
        assert str(metadata.resource) == guarded.url, metadata
        assert [str(server).rstrip("/") for server in metadata.authorization_servers] == [guarded.issuer]

    async def the_client_reads_what_a_bad_token_is_told() -> None:
        response = await guarded.raw("nonsense")
        assert response.status_code == 401, response
        assert extract_field_from_www_auth(response, "error") == "invalid_token", response.headers

    for step in (the_client_reads_the_401, the_client_reads_what_a_bad_token_is_told):
        await checks.check(step.__name__.replace("_", " "), step)


async def oauth(checks: Checks, guarded: Guarded, mode: str) -> None:
    async def from_the_challenge_to_a_token_and_on_to_more_scopes() -> None:
        before = len(await guarded.asked())
        user = User()
        metadata = OAuthClientMetadata(client_name="cleo", redirect_uris=["http://127.0.0.1:9/back"])
        provider = OAuthClientProvider(guarded.url, metadata, Storage(), user.browse, user.come_back)
        async with guarded.client(mode, auth=provider) as client:
            assert "5" in text(await client.call_tool("add", {"a": 2, "b": 3}))
            # The token has no scope for this one: the client asks for more, and calls again.
            assert "more" in text(await client.call_tool("echo", {"text": "more"}))
        asked = [set(scope.split()) for scope in (await guarded.asked())[before:]]
        assert asked == [{"calls"}, {"calls", "deep"}], asked

    name = "from the challenge to a token and on to more scopes"
    await checks.check(name, from_the_challenge_to_a_token_and_on_to_more_scopes)


def verify(path: str) -> list[dict[str, object]]:
    """Verifies the audit's chain without the crate."""
    previous, records = "0" * 64, []
    with open(path, "rb") as log:
        for number, line in enumerate(log, 1):
            body, found = line.rstrip(b"\n").rsplit(b',"hash":"', 1)
            record = json.loads(line)
            assert hashlib.sha256(body).hexdigest() == found[:64].decode() == record["hash"], number
            assert (record["seq"], record["prev"]) == (number, previous), number
            previous = record["hash"]
            records.append(record)
    return records


async def audit(checks: Checks, path: str) -> None:
    async def all_of_it_is_on_record() -> None:
        # What is recorded last is written in a moment.
        await anyio.sleep(0.5)
        records = verify(path)
        decided = {(record["decision"], record.get("name")) for record in records}
        assert {("allowed", "add"), ("allowed", "echo"), ("denied", "echo")} <= decided, decided
        assert any(record["decision"] == "unauthenticated" for record in records)
        subjects = {record["principal"]["subject"] for record in records if "principal" in record}
        assert {"ada", "bob", "cleo"} <= subjects, subjects
        with open(path, encoding="utf-8") as log:
            assert "eyJ" not in log.read(), "a token is on record"

    await checks.check("all of it is on record", all_of_it_is_on_record)


async def main(url: str, issuer: str, log: str) -> int:
    guarded = Guarded(url, issuer)
    failed = False
    for mode in ("legacy", "2026-07-28"):
        checks = Checks(f"python auth {mode}")
        await tokens(checks, guarded, mode)
        await oauth(checks, guarded, mode)
        failed |= checks.failed
    checks = Checks("python auth")
    await challenges(checks, guarded)
    await audit(checks, log)
    return 1 if failed or checks.failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, *sys.argv[1:]))
