// The check of an exported audit trail, on the example of package auditcheck.

import { checkTrail, type TrailReport } from "@keyfold/sdk";
import { equal, failure, same, type Case } from "./suite.js";

const event = {
  id: "00000000-0007-8000-8a01-020304050607",
  org_id: "o1",
  actor_type: "user",
  actor_id: "u1",
  action: "secret.read",
  resource_type: "secret",
  resource_id: "db/password",
  outcome: "allowed",
  details: { vault_id: "v1", path: "db/password" },
  ip_address: "192.0.2.1",
  request_id: "r1",
  created_at: "2026-09-21T14:13:20.000000001Z",
  prev_event_id: "00000000-0006-8000-8a01-020304050607",
  prev_hash: `ff${"0".repeat(62)}`,
  integrity_hash: "61b957bf62c99e46ff32a44e90e656a51a77a13a4f445074d8332e7a77355c05",
};
const head = { format: 1, org_id: "o1", from: "2026-09-21T00:00:00Z", to: "2026-09-22T00:00:00Z", keys: [] };
const end = { checkpoints: 0, events: 1 };

function check(...lines: unknown[]): Promise<TrailReport> {
  const bytes = new TextEncoder().encode(lines.map((l) => `${typeof l === "string" ? l : JSON.stringify(l)}\n`).join(""));
  const half = Math.floor(bytes.length / 2); // a line may come in two pieces
  return checkTrail(
    new ReadableStream({
      start(c) {
        c.enqueue(bytes.slice(0, half));
        c.enqueue(bytes.slice(half));
        c.close();
      },
    }),
  );
}

export const trail: Case[] = [
  {
    name: "an event of a trail is hashed as the server hashes it",
    run: async () => {
      same(await check({ export: head }, { event }, { end }), { org_id: "o1", whole: false, checkpoints: 0, events: 1, signed: 0, signatures: true, problems: [] });
    },
  },
  {
    name: "a change of any part of an event is found",
    run: async () => {
      const parts: Partial<Record<keyof typeof event, unknown>> = {
        actor_type: "agent", actor_id: "u2", action: "secret.list", resource_type: "vault", resource_id: "db/passwore", outcome: "refused", details: { vault_id: "v2", path: "db/password" },
        ip_address: "192.0.2.2", request_id: "", created_at: "2026-09-21T14:13:20.000000002Z", prev_hash: "0".repeat(64), id: "00000000-0008-8000-8a01-020304050607", org_id: "o2", integrity_hash: "0".repeat(64),
      };
      for (const [part, value] of Object.entries(parts)) {
        const { problems } = await check({ export: head }, { event: { ...event, [part]: value } }, { end });
        equal(problems.length, 1, part);
        equal(problems[0]!.event_id, part === "id" ? (value as string) : event.id, part);
      }
    },
  },
  {
    name: "what the whole of a trail lacks is found",
    run: async () => {
      const whole = { ...head, from: undefined };
      const report = await check({ export: whole }, { event }, { end });
      equal(report.problems[0]?.what.includes("missing before it"), true);
      equal(report.whole, true);
      equal((await check({ export: head }, { event }, { event }, { end: { ...end, events: 2 } })).problems[0]?.what.includes("out of its order"), true);
      equal((await check({ export: head }, { damaged: event.id }, { end })).problems[0]?.event_id, event.id);
      const checkpoint = { org_id: "o1", number: 1, created_at: event.created_at, prev_hash: "0".repeat(64), key_id: "0123456789abcdef", heads: [], signature: "" };
      equal((await check({ export: head }, { checkpoint }, { end: { checkpoints: 1, events: 0 } })).problems[0]?.checkpoint, 1);
    },
  },
  {
    name: "what is no export, or not all of one, is not checked",
    run: async () => {
      for (const lines of [[], [{ export: head }], [{ export: head }, { event }], [{ export: head }, { end }], [{ event }], ["<html>"], [{ export: head }, { event, damaged: "x" }, { end }], [{ export: { ...head, format: 2 } }, { end: { checkpoints: 0, events: 0 } }], [{ export: head }, { end: { checkpoints: 0, events: 0 } }, { event }]]) {
        await failure(check(...lines));
      }
    },
  },
];
