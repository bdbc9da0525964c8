// The official TypeScript client against the guarded gateway and its embedded demo server.
//
// auth.mjs URL ISSUER
import assert from "node:assert/strict";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Checks, answeringClient, error, text } from "./checks.mjs";

const [where, issuer] = process.argv.slice(2);
const checks = new Checks("typescript auth");
const json = async (url) => (await fetch(url)).json();
const made = (sub, scope, more = {}) =>
  json(`${issuer}/make?${new URLSearchParams({ sub, scope, more: JSON.stringify(more) })}`);

/** A client that shows this token, or none. */
function bearer(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return new StreamableHTTPClientTransport(new URL(where), { requestInit: { headers } });
}

/** Keeps what the client wants kept, and follows the authorization URL as a browser does. */
class User {
  redirectUrl = "http://127.0.0.1:9/back";
  clientMetadata = { client_name: "dora", redirect_uris: [this.redirectUrl] };
  clientInformation = () => this.client;
  saveClientInformation = (client) => void (this.client = client);
  tokens = () => this.kept;
  saveTokens = (tokens) => void (this.kept = tokens);
  saveCodeVerifier = (verifier) => void (this.verifier = verifier);
  codeVerifier = () => this.verifier;

  async redirectToAuthorization(url) {
    const response = await fetch(url, { redirect: "manual" });
    this.code = new URL(response.headers.get("location")).searchParams.get("code");
  }
}

await checks.check("a token is served", async () => {
  const client = answeringClient();
  await client.connect(bearer(await made("ada", "calls")));
  const names = (await client.listTools()).tools.map((tool) => tool.name);
  assert.deepEqual(names, ["add"]); // The list is filtered by the same rules.
  const result = await client.callTool({ name: "add", arguments: { a: 2, b: 3 } });
  assert.match(text(result), /5/);
  await client.close();
});

await checks.check("no token and bad tokens are refused", async () => {
  const expired = await made("ada", "calls", { exp: 1 });
  const foreign = await made("ada", "calls", { aud: "another" });
  for (const token of [undefined, "nonsense", expired, foreign]) {
    const refused = await error(answeringClient().connect(bearer(token)));
    assert.equal(refused.code, 401, String(refused));
  }
});

await checks.check("a missing scope is said", async () => {
  const client = answeringClient();
  await client.connect(bearer(await made("bob", "calls")));
  const refused = await error(client.callTool({ name: "echo", arguments: { text: "x" } }));
  assert.equal(refused.code, 403, String(refused));
  await client.close();
});

await checks.check("from the challenge to a token and on to more scopes", async () => {
  const before = (await json(`${issuer}/asked`)).length;
  const user = new User();
  const transport = () => new StreamableHTTPClientTransport(new URL(where), { authProvider: user });

  const first = transport();
  assert.ok((await error(answeringClient().connect(first))) instanceof UnauthorizedError);
  await first.finishAuth(user.code);
  const client = answeringClient();
  const second = transport();
  await client.connect(second);
  assert.match(text(await client.callTool({ name: "add", arguments: { a: 2, b: 3 } })), /5/);

  // The token has no scope for this one: the client asks for more.
  const echo = () => client.callTool({ name: "echo", arguments: { text: "more" } });
  assert.ok((await error(echo())) instanceof UnauthorizedError);
  await second.finishAuth(user.code);
  assert.match(text(await echo()), /more/);
  assert.match(text(await client.callTool({ name: "add", arguments: { a: 2, b: 3 } })), /5/);
  await client.close();

  const asked = (await json(`${issuer}/asked`)).slice(before);
  assert.deepEqual(asked.map((scope) => scope.split(" ").sort()), [["calls"], ["calls", "deep"]]);
});

process.exit(checks.failed ? 1 : 0);
