// Drives a client of openapi-typescript's types: arguments are the API and the id of an ended call.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

function assert(what: unknown, why: string): asserts what {
  if (!what) throw new Error(why);
}

const [, , baseUrl, callId] = process.argv;
assert(baseUrl && callId, "arguments");
const client = createClient<paths>({ baseUrl });

const page = await client.GET("/v1/cdrs", { params: { query: { caller: ["2*"], limit: 1 } } });
const cdrs = page.data;
assert(typeof cdrs === "object", "JSON unless text/csv is accepted");
assert(cdrs.items[0]?.call_id === callId, "the CDR is listed");
const events = await client.GET("/v1/events", { params: { query: { call_id: [callId], type: ["call.ended"] } } });
assert(typeof events.data === "object", "JSON unless text/event-stream is accepted");
const ended = events.data.items[0] as components["schemas"]["CallEndedEvent"];
assert(ended.type === "io.pbx.call.ended.v1" && ended.data.talk_ms === cdrs.items[0].talk_ms, "the event is typed");

const url = "https://crm.example/y";
const made = await client.POST("/v1/webhooks", { body: { url, types: ["call.*"], user: "2000" } });
assert(made.data?.secret, "a secret is shown");
const path = { hook_id: made.data.id };
await client.PATCH("/v1/webhooks/{hook_id}", { params: { path }, body: { enabled: false } });
const seen = await client.GET("/v1/webhooks/{hook_id}", { params: { path } });
assert(seen.data?.url === url && seen.data.types.join() === "call.*" && seen.data.user === "2000", "nothing is lost");
assert(seen.data.enabled === false, "it is changed");
await client.DELETE("/v1/webhooks/{hook_id}", { params: { path } });

const gone = await client.GET("/v1/cdrs/{call_id}", { params: { path: { call_id: "none" } } });
assert(gone.error?.code === "not_found", "an error has its code");
console.log("driven");
