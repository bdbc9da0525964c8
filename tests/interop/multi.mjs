// Four real servers and a registered tool behind one gateway, used through it by the official TypeScript client.
//
// multi.mjs http SCRATCH URL PID | multi.mjs stdio SCRATCH GATEWAY CONFIG
//
// SCRATCH is the directory the filesystem server may touch; PID, the gateway's process.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { Checks, answeringClient, error, progressOf, text } from "./checks.mjs";

const LONG = "everything__trigger-long-running-operation";
const GRAPH = "memory+memory://knowledge-graph";
// What each server's process is known by.
const COMMANDS = {
  everything: "server-everything",
  filesystem: "server-filesystem",
  memory: "server-memory",
  time: "mcp-server-time",
};

const [kind, scratch, where, more] = process.argv.slice(2);
const checks = new Checks(`typescript ${kind}`);
const check = (name, body) => checks.check(name, body);
const client = answeringClient();
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(where))
    : new StdioClientTransport({ command: where, args: ["--stdio", "--config", more], stderr: "ignore" });
// The servers run below this process.
const root = kind === "http" ? Number(more) : process.pid;

const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);

async function tools() {
  await check("tools listed", async () => {
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    const owners = new Set(names.map((name) => name.split("__")[0]));
    assert.deepEqual(owners, new Set(["gateway", ...Object.keys(COMMANDS)]));
    assert.equal(new Set(names).size, names.length);
  });
  await check("tools everything", async () => {
    assert.match(text(await call("everything__get-sum", { a: 2, b: 3 })), /5/);
    const seen = await progressOf(transport, (options) => call(LONG, { duration: 0.5, steps: 5 }, options));
    assert.deepEqual(seen, [1, 2, 3, 4, 5]);
    assert.match(text(await call("everything__trigger-sampling-request", { prompt: "tea?" })), /thought about/);
    assert.match(text(await call("everything__trigger-elicitation-request", {})), /blue/);
  });
  await check("tools half an emoji", async () => {
    // As JavaScript cuts strings: it is no character, and is replaced where it is read.
    const cut = "\u{1f600} tea".slice(1);
    assert.equal(text(await call("everything__echo", { message: cut })), "Echo: \ufffd tea");
  });
  await check("tools filesystem", async () => {
    const path = join(scratch, "note.txt");
    await call("filesystem__write_file", { path, content: "one\ntwo\n" });
    assert.equal(readFileSync(path, "utf8"), "one\ntwo\n");
    assert.match(text(await call("filesystem__read_text_file", { path })), /two/);
  });
  await check("tools memory", async () => {
    const tea = { name: "tea", entityType: "drink", observations: ["hot"] };
    await call("memory__create_entities", { entities: [tea] });
    assert.match(text(await call("memory__search_nodes", { query: "hot" })), /tea/);
  });
  await check("tools time", async () => {
    const noon = { source_timezone: "UTC", time: "12:00", target_timezone: "Asia/Tokyo" };
    assert.match(text(await call("time__convert_time", noon)), /21:00/);
  });
  await check("tools status", all_are_connected);
  await check("tools unknown", async () => {
    const { code, message } = await error(call("everything__eco", {}));
    assert.equal(code, -32602);
    assert.match(message, /everything__echo/);
  });
}

async function all_are_connected() {
  const { servers } = (await call("gateway__status", {})).structuredContent;
  const states = Object.fromEntries(servers.map(({ name, state }) => [name, state]));
  assert.deepEqual(states, Object.fromEntries(Object.keys(COMMANDS).map((name) => [name, "connected"])));
}

const reads_as_itself = async (uri) =>
  assert.equal((await client.readResource({ uri })).contents[0].uri, uri);

async function resources() {
  await check("resources listed", async () => {
    const uris = (await client.listResources()).resources.map((resource) => resource.uri);
    assert.deepEqual(new Set(uris.map((uri) => uri.split("+")[0])), new Set(["everything", "memory"]));
    for (const uri of uris) await reads_as_itself(uri);
  });
  await check("resources template", async () => {
    const { resourceTemplates } = await client.listResourceTemplates();
    const uris = resourceTemplates.map((template) => template.uriTemplate);
    assert.ok(uris.includes("everything+demo://resource/dynamic/text/{resourceId}"), uris.join());
    await reads_as_itself("everything+demo://resource/dynamic/text/7");
  });
  await check("resources links", async () => {
    const links = (await call("everything__get-resource-links", { count: 2 })).content;
    const embedded = (await call("everything__get-resource-reference", {})).content;
    const uris = [...links, ...embedded].map((block) => block.uri ?? block.resource?.uri).filter(Boolean);
    assert.equal(uris.length, 3);
    for (const uri of uris) await reads_as_itself(uri);
  });
  await check("resources change", async () => {
    const updated = new Promise((resolve) =>
      client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => resolve(params.uri)),
    );
    await client.subscribeResource({ uri: GRAPH });
    const cup = { name: "cup", entityType: "thing", observations: ["full"] };
    await call("memory__create_entities", { entities: [cup] });
    assert.equal(await updated, GRAPH);
  });
}

async function prompts() {
  await check("prompts listed", async () => {
    const names = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
    assert.ok(names.includes("everything__args-prompt"), names.join());
  });
  await check("prompts argument", async () => {
    const name = "everything__args-prompt";
    const { messages } = await client.getPrompt({ name, arguments: { city: "Oslo" } });
    assert.match(messages[0].content.text, /Oslo/);
  });
  await check("prompts resource", async () => {
    const name = "everything__resource-prompt";
    const { messages } = await client.getPrompt({ name, arguments: { resourceType: "Text", resourceId: "3" } });
    await reads_as_itself(messages[1].content.resource.uri);
  });
  await check("prompts completion", async () => {
    const ref = { type: "ref/prompt", name: "everything__completable-prompt" };
    const { completion } = await client.complete({ ref, argument: { name: "department", value: "S" } });
    assert.deepEqual(new Set(completion.values), new Set(["Sales", "Support"]));
  });
}

/** The one process below `root` with this word in its command line. */
function onlyOne(word) {
  const parents = new Map();
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      // The name, in parentheses, may hold anything.
      parents.set(Number(id), Number(readFileSync(`/proc/${id}/stat`, "utf8").split(")").pop().split(" ")[2]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const isBelow = (id) => parents.get(id) === root || (parents.has(id) && isBelow(parents.get(id)));
  const found = [...parents.keys()].filter((id) => {
    try {
      return isBelow(id) && readFileSync(`/proc/${id}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  });
  assert.equal(found.length, 1, `${word} should run once: ${found}`);
  return found[0];
}

const processes = () =>
  Object.fromEntries(Object.entries(COMMANDS).map(([name, word]) => [name, onlyOne(word)]));

/** One server's process is killed while every server has a call in flight. */
async function killedChild() {
  const before = processes();
  const { everything, ...others } = before;
  await check("a killed child loses its own call only", async () => {
    let answered = 0;
    const count = (result) => {
      answered += 1;
      return result;
    };
    // A stopped process keeps its call in flight until it is let go on.
    for (const id of Object.values(others)) process.kill(id, "SIGSTOP");
    try {
      const waiting = Promise.all([
        call("filesystem__list_allowed_directories", {}).then(count),
        call("memory__read_graph", {}).then(count),
        call("time__get_current_time", { timezone: "UTC" }).then(count),
      ]);
      waiting.catch(() => {});
      const lost = await new Promise((resolve, reject) => {
        const onprogress = () => process.kill(everything, "SIGKILL");
        error(call(LONG, { duration: 20, steps: 200 }, { onprogress })).then(resolve, reject);
        setTimeout(() => reject(new Error("the lost call did not end within 10 s")), 10_000).unref();
      });
      assert.match(String(lost), /everything/);
      assert.equal(answered, 0);
      for (const id of Object.values(others)) process.kill(id, "SIGCONT");
      for (const result of await waiting) assert.notEqual(result.isError, true);
    } finally {
      for (const id of Object.values(others)) process.kill(id, "SIGCONT");
    }
  });
  await check("it comes back on the next call", async () => {
    assert.match(text(await call("everything__echo", { message: "again" })), /again/);
    const after = processes();
    const changed = Object.keys(after).filter((name) => before[name] !== after[name]);
    assert.deepEqual(changed, ["everything"]);
  });
  await check("all are connected again", all_are_connected);
}

await check("connection", async () => {
  await client.connect(transport);
  assert.ok(client.getServerVersion().name);
});
if (!checks.failed) {
  await tools();
  await resources();
  await prompts();
  await killedChild();
}
await client.close();
process.exit(checks.failed ? 1 : 0);
