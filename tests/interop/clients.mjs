// The official TypeScript client against the gateway and its embedded demo server.
//
// clients.mjs http URL | clients.mjs stdio GATEWAY
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const [kind, where] = process.argv.slice(2);
const LIMIT_MS = 30_000;
let failed = false;

async function check(name, body) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done in ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    await Promise.race([body(), late]);
    console.log(`ok typescript ${kind} ${name}`);
  } catch (error) {
    failed = true;
    console.log(`FAIL typescript ${kind} ${name}: ${String(error).replace(/\s+/g, " ")}`);
  } finally {
    clearTimeout(timer);
  }
}

/** A client that can be asked for a model's answer and for a user's. */
function answeringClient() {
  const client = new Client(
    { name: "rmcp-layers-interop", version: "0.0.0" },
    { capabilities: { sampling: {}, elicitation: {} } },
  );
  client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
    const [content] = [params.messages[0].content].flat();
    const text = `thought about: ${content.text}`;
    return { role: "assistant", content: { type: "text", text }, model: "none" };
  });
  client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
    const fields = Object.entries(params.requestedSchema.properties);
    const strings = fields.filter(([, field]) => field.type === "string");
    const content = Object.fromEntries(strings.map(([name]) => [name, "blue"]));
    return { action: "accept", content };
  });
  return client;
}

const client = answeringClient();
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(where))
    : new StdioClientTransport({ command: where, args: ["--stdio"], stderr: "ignore" });

const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const text = (result) => result.content.map((block) => block.text ?? "").join("");
const error = (promise) => promise.then(() => assert.fail("nothing was thrown"), (error) => error);

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
    const seen = [];
    await call("count", { steps: 20, delay_ms: 5 }, { onprogress: (p) => seen.push(p.progress) });
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
if (!failed) {
  await calls();
  await longCalls();
  await theRest();
}
await client.close();
process.exit(failed ? 1 : 0);
