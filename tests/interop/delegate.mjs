// The official TypeScript client runs a plan that takes longer than it waits for an answer.
//
// delegate.mjs http URL | delegate.mjs stdio SERVER
import assert from "node:assert/strict";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Checks, answeringClient, error, text } from "./checks.mjs";

// The client's own limit for an answer, and tasks that take longer together.
const timeout = 3_000;
const tasks = [
  { id: "a", description: "1500" },
  { id: "b", description: "1500", after: ["a"] },
  { id: "c", description: "1500", after: ["b"] },
];

const [kind, where] = process.argv.slice(2);
const checks = new Checks(`typescript ${kind}`);
const client = answeringClient();
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(where))
    : new StdioClientTransport({ command: where, args: ["--stdio"], stderr: "ignore" });
const call = (name, args) => client.callTool({ name, arguments: args }, undefined, { timeout });

await client.connect(transport);
await checks.check("too long", async () => {
  assert.match(String(await error(call("run_plan", { tasks }))), /timed out/i);
});
await checks.check("longer than the timeout", async () => {
  // The client checks each result against the output schema of its tool.
  await client.listTools();
  const first = await call("run_plan", { tasks, wait_s: 2 });
  let state = first.structuredContent;
  assert.equal(state.state, "running");
  assert.match(text(first), /task_status/);
  let asked = 0;
  while (state.state === "running") {
    const status = await call("task_status", { plan: state.plan, wait_s: 2, until: "end" });
    state = status.structuredContent;
    asked += 1;
  }
  assert.equal(state.state, "complete");
  assert.deepEqual(state.tasks.map((task) => task.answer), Array(3).fill("slept 1500 ms"));
  assert.ok(asked >= 1 && asked <= 3, `asked ${asked} times`);
});
await checks.check("cancel", async () => {
  const begun = await call("run_plan", { tasks, wait_s: 0 });
  const { plan } = begun.structuredContent;
  const cancelled = await call("cancel_task", { plan });
  assert.equal(cancelled.structuredContent.state, "incomplete");
});
await checks.check("agents", async () => {
  const { agents } = (await call("list_agents", {})).structuredContent;
  assert.deepEqual(agents.map((agent) => agent.name), ["first", "second"]);
});
await client.close();
process.exit(checks.failed ? 1 : 0);
