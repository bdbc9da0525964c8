// Progress right before a result, over stdio, to the TypeScript clients, which lose it if both are read at once.
//
// progress.mjs GATEWAY CONFIG
import assert from "node:assert/strict";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { Client as ClientV2 } from "typescript-client-2";
import { StdioClientTransport as StdioV2 } from "typescript-client-2/stdio";
import { Checks } from "../checks.mjs";

const CALLS = 300;
const [gateway, config] = process.argv.slice(2);

async function loseNothing(version, Client, Transport, call) {
  const transport = new Transport({ command: gateway, args: ["--config", config, "--stdio"], stderr: "ignore" });
  const client = new Client({ name: "rmcp-layers-interop", version: "0.0.0" });
  const errors = [];
  let closed = false;
  client.onerror = (error) => errors.push(String(error));
  client.onclose = () => (closed = true);
  await client.connect(transport);
  let heard = 0;
  // What came, beside what the client tells of.
  let came = 0;
  const read = transport.onmessage;
  transport.onmessage = (message, extra) => {
    came += message.method === "notifications/progress";
    read.call(transport, message, extra);
  };
  for (let i = 0; i < CALLS; i++) {
    // Some end at once, and some right after a notification that may have been sent.
    const params = { name: "count", arguments: { steps: 1 + (i % 3), delay_ms: i % 20 } };
    await call(client, params, { onprogress: () => heard++ });
  }
  assert.deepEqual(errors, []);
  assert.equal(closed, false, "the connection was closed");
  assert.ok(came > 0, "no progress came");
  assert.equal(heard, came, `${came - heard} of ${came} notifications were lost`);
  await client.close();
}

const checks = new Checks("metrics");
await checks.check("progress typescript v1", () =>
  loseNothing("v1", ClientV1, StdioV1, (client, params, options) => client.callTool(params, undefined, options)),
);
await checks.check("progress typescript v2", () =>
  loseNothing("v2", ClientV2, StdioV2, (client, params, options) => client.callTool(params, options)),
);
process.exit(checks.failed ? 1 : 0);
