// The official TypeScript client, 1.x and 2.x, in front of a gateway with `[budget]`.
//
// budget.mjs URL MISFIT
//
// Once tools were listed, both check results against the tools' output schemas.
import assert from "node:assert/strict";
import { Client as ClientOne } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportOne } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  Client as ClientTwo,
  StreamableHTTPClientTransport as TransportTwo,
} from "typescript-client-2";
import { Checks, text } from "./checks.mjs";

const [url, misfit] = process.argv.slice(2);
const KEY = "rmcp-layers/budget";

async function cuts(name, Client, Transport) {
  const checks = new Checks(`budget ${misfit} typescript ${name}`);
  const client = new Client({ name: "rmcp-layers-interop", version: "0.0.0" });
  await client.connect(new Transport(new URL(url)));
  const { tools } = await client.listTools();
  for (const { name } of tools.filter(({ name }) => name !== "read_result" && !name.startsWith("gateway__"))) {
    await checks.check(`accepts ${name}`, async () => {
      const result = await client.callTool({ name, arguments: {} });
      const isError = name === "failed" || (name === "exact_ITEMS" && misfit === "tool_error");
      assert.equal(result.isError ?? false, isError, text(result).slice(0, 300));
      if (name === "failed") return;
      const says = result._meta[KEY];
      assert.ok(says.cut && says.charged <= 10_000, JSON.stringify(says));
    });
  }
  await checks.check("reads the rest", async () => {
    const cut = await client.callTool({ name: "lines", arguments: {} });
    let found = "";
    for (let next = { id: cut._meta[KEY].cut.id }; next; ) {
      const page = await client.callTool({ name: "read_result", arguments: next });
      assert.notEqual(page.isError, true, text(page));
      found += page.content[0].text;
      next = page._meta[KEY].page.next;
    }
    assert.equal(found.split("\n").length, 10_001);
  });
  await client.close();
  return checks.failed;
}

const failed = [await cuts("1.x", ClientOne, TransportOne), await cuts("2.x", ClientTwo, TransportTwo)];
process.exit(failed.includes(true) ? 1 : 0);
