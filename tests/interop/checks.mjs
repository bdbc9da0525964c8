// What the TypeScript client's scripts here share: a line for each check, and a client that answers.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

// Longer than any call here takes; one that takes longer hangs.
const LIMIT_MS = 30_000;

/** Runs checks one by one, and prints `ok NAME` or `FAIL NAME WHY` for each. */
export class Checks {
  failed = false;

  constructor(subject) {
    this.subject = subject;
  }

  async check(name, body) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done in ${LIMIT_MS} ms`)), LIMIT_MS);
    });
    try {
      await Promise.race([body(), late]);
      console.log(`ok ${this.subject} ${name}`);
    } catch (error) {
      this.failed = true;
      console.log(`FAIL ${this.subject} ${name}: ${String(error).replace(/\s+/g, " ")}`);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A client that can be asked for a model's answer and for a user's. */
export function answeringClient() {
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

/**
 * Runs a call, and returns the progress that came before its result. `transport` is the client's, and open.
 *
 * As it came, not as the SDK tells of it: of a notification it tells a microtask after it was read and of a
 * result at once, so it drops the progress that is read together with the result (typescript-sdk #2580).
 */
export async function progressOf(transport, call) {
  const seen = [];
  let told = 0;
  let ended = false;
  const tell = transport.onmessage;
  transport.onmessage = (message, ...more) => {
    if (message.method === "notifications/progress" && !ended) seen.push(message.params.progress);
    ended ||= "result" in message || "error" in message;
    return tell(message, ...more);
  };
  try {
    await call({ onprogress: () => (told += 1) });
  } finally {
    transport.onmessage = tell;
  }
  assert.ok(told > 0, "the client was told of no progress");
  return seen;
}

export const text = (result) => result.content.map((block) => block.text ?? "").join("");
export const error = (promise) =>
  promise.then(() => assert.fail("nothing was thrown"), (error) => error);
