// The check of an exported audit trail, on the example of package auditcheck.

import { checkTrail, type TrailReport } from "@keyfold/sdk";
import { equal, failure, hex, ok, same, unhex, type Case } from "./suite.js";

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

interface Point {
  number: number;
  heads: { event_id: string; created_at: string; integrity_hash: string }[];
}

/** What makes checkpoints as package auditcheck reads them, with a key of its own. */
async function signer() {
  const pair = (await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"])) as CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const id = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", raw))).slice(0, 16);
  const long = (n: bigint) => n.toString(16).padStart(16, "0");
  const nanos = long(BigInt(Date.parse("2026-09-21T14:13:20Z")) * 1_000_000n + 1n); // event.created_at
  const prev_hash = "0".repeat(64);
  const sign = async ({ number, heads }: Point) => {
    const texts = ["keyfold/trail/checkpoint/v1", "o1"].map((t) => hex(new TextEncoder().encode(t)));
    const named = heads.map((h) => h.event_id.slice(19).replace("-", "") + long(BigInt(`0x${h.event_id.slice(0, 8)}${h.event_id.slice(9, 13)}`)) + nanos + h.integrity_hash);
    const all = [...texts, long(BigInt(number)), nanos, prev_hash, hex(new TextEncoder().encode(id)), ...named];
    const text = unhex(all.map((f) => (f.length / 2).toString(16).padStart(8, "0") + f).join(""));
    const signature = new Uint8Array(await crypto.subtle.sign("Ed25519", pair.privateKey, text as BufferSource));
    return { org_id: "o1", number, created_at: event.created_at, prev_hash, key_id: id, heads, signature: btoa(String.fromCharCode(...signature)) };
  };
  return { sign, keys: [{ id, public_key: btoa(String.fromCharCode(...raw)) }] };
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
    name: "checkpoints that are missing, and events that one names and that are not there, are found",
    run: async () => {
      const { sign, keys } = await signer();
      const [part, whole] = [{ ...head, keys }, { ...head, keys, from: undefined }];
      const heads = [{ event_id: event.id, created_at: event.created_at, integrity_hash: event.integrity_hash }];
      const first = await sign({ number: 1, heads });
      const one = { ...end, checkpoints: 1 };
      same(await check({ export: part }, { checkpoint: first }, { event }, { end: one }), { org_id: "o1", whole: false, checkpoints: 1, events: 1, signed: 1, signatures: true, problems: [] });
      const none = { checkpoints: 1, events: 0 };
      same((await check({ export: whole }, { checkpoint: await sign({ number: 1, heads: [] }) }, { end: none })).problems, []);
      same((await check({ export: whole }, { checkpoint: first }, { end: none })).problems, [{ event_id: event.id, what: "it is missing: checkpoint 1 names it" }]);
      const [gap] = (await check({ export: whole }, { checkpoint: await sign({ number: 2, heads: [] }) }, { end: none })).problems;
      equal(gap?.checkpoint, 2);
      ok(gap?.what.includes("those before it are missing"), "it says another thing");
      const [forged] = (await check({ export: whole }, { checkpoint: { ...first, heads: [] } }, { end: none })).problems;
      ok(forged?.what.includes("did not sign this"), "a changed checkpoint is believed");
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
