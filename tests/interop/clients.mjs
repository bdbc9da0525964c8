// The official TypeScript client against the gateway and its embedded demo server.
//
// clients.mjs http URL | clients.mjs stdio GATEWAY
import assert from "node:assert/strict";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Checks, answeringClient, error, progressOf, text } from "./checks.mjs";

const [kind, where] = process.argv.slice(2);
const checks = new Checks(`typescript ${kind}`);
const check = (name, body) => checks.check(name, body);
const client = answeringClient();
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(where))
    : new StdioClientTransport({ command: where, args: ["--stdio"], stderr: "ignore" });

const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);

async function calls() {
  await check("tools", async () => {
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    for (const name of ["add", "echo", "count", "sleep", "fail", "reject", "ask", "think"]) {
      assert.ok(names.includes(name), `${name} is not in ${names}`);
    }
  });
  await check("call", async () => {
    assert.match(text(await call("add", { a: 2, b: 3 })), /5/);
    const said = "Grüße, 世界 🍵";
    assert.ok(text(await call("echo", { text: said })).includes(said));
  });
  await check("many at once", async () => {
    const adds = Array.from({ length: 50 }, async (_, a) => {
      assert.ok(text(await call("add", { a, b: 1000 })).includes(String(a + 1000)));
    });
    await Promise.all(adds);
  });
  await check("tool error", async () => assert.equal((await call("fail", {})).isError, true));
  await check("protocol error", async () => {
    const { code, data } = await error(call("reject", {}));
    assert.equal(code, -32050);
    assert.deepEqual(data, { reason: "demo" });
  });
}

async function longCalls() {
  await check("progress", async () => {
    const seen = await progressOf(transport, (options) => call("count", { steps: 20, delay_ms: 5 }, options));
    assert.equal(seen.length, 20);
    assert.deepEqual(seen, [...seen].sort((a, b) => a - b));
  });
  await check("cancel", async () => {
    const stop = new AbortController();
    let seen = 0;
    const onprogress = () => ++seen === 3 && stop.abort("enough");
    const cancelled = call("count", { steps: 1000, delay_ms: 20 }, { onprogress, signal: stop.signal });
    assert.match(String(await error(cancelled)), /enough/);
    const heard = seen;
    await call("count", { steps: 3, delay_ms: 20 });
    assert.equal(seen, heard);
  });
  await check("give up", async () => {
    assert.match(String(await error(call("sleep", { ms: 20_000 }, { timeout: 300 }))), /timed out/);
    await call("add", { a: 1, b: 1 }, { timeout: 2_000 });
  });
}

async function theRest() {
  await check("resources", async () => {
    const uris = (await client.listResources()).resources.map((resource) => resource.uri);
    assert.ok(uris.includes("demo://readme"), uris.join());
    assert.ok((await client.readResource({ uri: "demo://readme" })).contents[0].text);
  });
  await check("template", async () => {
    const { resourceTemplates } = await client.listResourceTemplates();
    const uris = resourceTemplates.map((template) => template.uriTemplate);
    assert.ok(uris.includes("demo://item/{id}"), uris.join());
    assert.match((await client.readResource({ uri: "demo://item/7" })).contents[0].text, /7/);
  });
  await check("prompt", async () => {
    const names = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
    assert.ok(names.includes("greet"), names.join());
    const { messages } = await client.getPrompt({ name: "greet", arguments: { name: "Ada" } });
    assert.match(messages[0].content.text, /Ada/);
  });
  await check("elicitation", async () => {
    assert.match(text(await call("ask", { question: "Which color?" })), /blue/);
  });
  await check("sampling", async () => {
    assert.match(text(await call("think", { prompt: "tea?" })), /thought about: tea\?/);
  });
}

await check("connection", async () => {
  await client.connect(transport);
  assert.ok(client.getServerVersion().name);
});
if (!checks.failed) {
  await calls();
  await longCalls();
  await theRest();
}
await client.close();
process.exit(checks.failed ? 1 : 0);
