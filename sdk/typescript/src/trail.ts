// The check of an exported audit trail by who does not trust the server: every
// event's hash and place in its chain, every checkpoint's signature and place in
// theirs, and that the checkpoints name the events that are there. The encoding is
// that of package auditcheck, whose check with saved keys and checkpoints says more.

import { concat, fromBase64, fromHex, isLowerHex, toHex, view, webCrypto } from "./bytes.js";
import { KeyfoldError } from "./errors.js";
import type * as wire from "./types.js";

/** What is wrong with a trail, of an event or of a checkpoint. */
export interface TrailProblem {
  event_id?: string;
  checkpoint?: number;
  what: string;
}

/** What a check found. */
export interface TrailReport {
  org_id: string;
  /** From the trail's first event on. False: the export says that it is of a part in time, and what was before is not missed. */
  whole: boolean;
  events: number;
  /** Of them, those under a checkpoint that was checked; the rest came after it. */
  signed: number;
  checkpoints: number;
  /** False: this machine knows no Ed25519, and the signatures of the checkpoints were not checked. */
  signatures: boolean;
  /** The first 100; none: the trail is whole, by the keys that it names itself. */
  problems: TrailProblem[];
}

export interface TrailOptions {
  /** Is told how many bytes were read. */
  progress?: (bytes: number) => void;
}

interface Line {
  export?: { format: number; org_id: string; from?: string; keys: { id: string; public_key: string }[] };
  checkpoint?: wire.AuditCheckpoint;
  event?: wire.AuditEvent;
  damaged?: string;
  end?: { checkpoints: number; events: number };
}

const maxProblems = 100;

/** Checks what audit.export answered: the whole trail, or a part in time. Throws a KeyfoldError when it is no export, or one that was cut off. */
export async function checkTrail(lines: ReadableStream<Uint8Array>, options: TrailOptions = {}): Promise<TrailReport> {
  const check = new Check(await webCrypto());
  for await (const text of linesOf(lines, options.progress)) await check.line(text);
  return check.report();
}

async function* linesOf(stream: ReadableStream<Uint8Array>, progress?: (bytes: number) => void): AsyncGenerator<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let size = 0;
  for (let r = await reader.read(); !r.done; r = await reader.read()) {
    progress?.((size += r.value.length));
    const parts = (rest + decoder.decode(r.value, { stream: true })).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
  if (rest !== "") throw cutOff();
}

const cutOff = () => new KeyfoldError("The export was cut off, or is none; ask for it again");

/** The end of a chain as a checkpoint names it. */
interface Head {
  id: string;
  hash: string;
  number: number;
}

/** How far a chain was read; of a broken one the last hash is not known. */
interface Chain {
  seq: number;
  hash: string | undefined;
  /** Events since one that a checkpoint names. */
  run: number;
}

class Check {
  readonly #crypto: Crypto;
  readonly #problems: TrailProblem[] = [];
  readonly #heads = new Map<string, Head>();
  readonly #chains = new Map<string, Chain>();
  #keys: Map<string, CryptoKey | undefined> | undefined;
  #org = "";
  #whole = true;
  #signatures = true;
  #count = { checkpoints: 0, events: 0 };
  #signed = 0;
  #last: { number: number; hash: string } | undefined;
  #ended = false;

  constructor(crypto: Crypto) {
    this.#crypto = crypto;
  }

  async line(text: string): Promise<void> {
    const line = parse(text);
    if (this.#ended || Object.keys(line).length !== 1 || (this.#keys === undefined) !== (line.export !== undefined)) throw new KeyfoldError("This is no export of an audit trail");
    if (line.export) return this.#begin(line.export);
    if (line.checkpoint) return this.#checkpoint(line.checkpoint);
    if (line.event) return this.#event(line.event);
    if (line.damaged !== undefined) return this.#damaged(line.damaged);
    const { end } = line;
    if (!end || end.checkpoints !== this.#count.checkpoints || end.events !== this.#count.events) throw cutOff();
    this.#ended = true;
  }

  report(): TrailReport {
    if (!this.#ended) throw cutOff();
    for (const head of this.#heads.values()) {
      if (this.#whole) this.#wrong({ event_id: head.id, what: `it is missing: checkpoint ${head.number} names it` });
    }
    return { org_id: this.#org, whole: this.#whole, ...this.#count, signed: this.#signed, signatures: this.#signatures, problems: this.#problems };
  }

  #wrong(problem: TrailProblem): void {
    if (this.#problems.length < maxProblems) this.#problems.push(problem);
  }

  async #begin({ format, org_id, from, keys }: NonNullable<Line["export"]>): Promise<void> {
    if (format !== 1) throw new KeyfoldError("The export is of a form that is not known here; use a newer SDK");
    this.#org = org_id;
    this.#whole = from === undefined;
    this.#keys = new Map();
    for (const key of keys) {
      const raw = fromBase64(key.public_key);
      const id = (await this.#hash(raw)).slice(0, 16);
      if (id === key.id && raw.length === 32) this.#keys.set(id, await this.#import(raw));
    }
  }

  /** Undefined where there is no Ed25519. */
  async #import(raw: Uint8Array): Promise<CryptoKey | undefined> {
    try {
      return await this.#crypto.subtle.importKey("raw", view(raw), "Ed25519", false, ["verify"]);
    } catch {
      this.#signatures = false;
      return undefined;
    }
  }

  async #hash(bytes: Uint8Array): Promise<string> {
    return toHex(new Uint8Array(await this.#crypto.subtle.digest("SHA-256", view(bytes))));
  }

  async #checkpoint(p: wire.AuditCheckpoint): Promise<void> {
    this.#count.checkpoints++;
    const wrong = (what: string) => this.#wrong({ checkpoint: p.number, what });
    const text = encodeCheckpoint(p);
    if (!text) return wrong("it is not a checkpoint as it is written");
    const hash = await this.#hash(text);
    const last = this.#last;
    this.#last = { number: p.number, hash };
    const why = await this.#unsigned(p, text);
    if (why !== undefined) return wrong(why);
    if (last ? p.number !== last.number + 1 : this.#whole && p.number !== 1) wrong("those before it are missing, or it is out of its order");
    else if (last ? p.prev_hash !== last.hash : p.number === 1 && p.prev_hash !== noHash) wrong("it does not follow on the one before: that one was changed");
    for (const { event_id: id, integrity_hash } of p.heads) {
      const known = this.#heads.get(id);
      if (known && known.hash !== integrity_hash) wrong(`it names another event ${id} than checkpoint ${known.number}`);
      else this.#heads.set(id, known ?? { id, hash: integrity_hash, number: p.number });
    }
  }

  async #unsigned(p: wire.AuditCheckpoint, text: Uint8Array): Promise<string | undefined> {
    if (p.org_id !== this.#org) return "it is of another org";
    if (!this.#keys!.has(p.key_id)) return "its key is none of those that the export names";
    const key = this.#keys!.get(p.key_id);
    if (key && !(await this.#crypto.subtle.verify("Ed25519", key, view(fromBase64(p.signature)), view(text)))) return "its key did not sign this: it was changed";
    return undefined;
  }

  #damaged(id: string): void {
    this.#count.events++;
    this.#wrong({ event_id: id, what: "the server found that it is not as it was written" });
    const place = placeOf(id);
    if (place) this.#chains.set(place.chain, { seq: place.seq, hash: undefined, run: 0 });
  }

  async #event(e: wire.AuditEvent): Promise<void> {
    this.#count.events++;
    const place = placeOf(e.id);
    const text = place && encodeEvent(e, place);
    if (!place || !text) return this.#wrong({ event_id: e.id, what: "it is not an event as it is written" });
    const hash = await this.#hash(text);
    const chain = this.#chains.get(place.chain);
    const head = this.#heads.get(e.id);
    this.#heads.delete(e.id);
    const what = this.#misplaced(e, hash, place, chain, head);
    if (what !== undefined) this.#wrong({ event_id: e.id, what });
    const run = what === undefined ? (chain?.run ?? 0) + 1 : 0;
    if (head && what === undefined) this.#signed += run;
    this.#chains.set(place.chain, { seq: place.seq, hash: hash === e.integrity_hash ? hash : undefined, run: head ? 0 : run });
  }

  #misplaced(e: wire.AuditEvent, hash: string, { seq }: Place, chain: Chain | undefined, head: Head | undefined): string | undefined {
    if (e.org_id !== this.#org) return "it is of another org";
    if (hash !== e.integrity_hash) return "its hash is another: it was changed";
    if (chain ? seq !== chain.seq + 1 : this.#whole && seq !== 1) return "events of its chain are missing before it, or it is out of its order";
    if (seq === 1 ? e.prev_hash !== noHash : chain?.hash !== undefined && e.prev_hash !== chain.hash) return "it does not follow on the event before: that one was changed";
    if (head && head.hash !== hash) return `it is not the event that checkpoint ${head.number} names: it, or one before it, was changed`;
    return undefined;
  }
}

function parse(text: string): Line {
  try {
    const line: unknown = JSON.parse(text);
    if (typeof line === "object" && line !== null) return line as Line;
  } catch {
    // told below
  }
  throw new KeyfoldError("This is no export of an audit trail");
}

const noHash = "0".repeat(64);

interface Place {
  /** 16 hex digits. */
  chain: string;
  seq: number;
}

/** The chain and number that an event's ID names. */
function placeOf(id: string): Place | undefined {
  const [, high, low, a, b] = /^([0-9a-f]{8})-([0-9a-f]{4})-8000-([89ab][0-9a-f]{3})-([0-9a-f]{12})$/.exec(id) ?? [];
  const seq = parseInt(`${high}${low}`, 16);
  return high === undefined || seq === 0 ? undefined : { chain: `${a}${b}`, seq };
}

/** Nanoseconds since 1970. */
function nanosOf(time: string): bigint | undefined {
  const [, seconds, fraction = ""] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(time) ?? [];
  const ms = Date.parse(`${seconds}Z`);
  return Number.isNaN(ms) || ms < 0 ? undefined : BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

const utf8 = new TextEncoder();
const isHash = (text: string) => text.length === 64 && isLowerHex(text);

function number(n: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, n);
  return bytes;
}

/** Each field as its length and its bytes. */
function fields(...all: (string | Uint8Array)[]): Uint8Array {
  return concat(
    ...all.flatMap((f) => {
      const bytes = typeof f === "string" ? utf8.encode(f) : f;
      const size = new Uint8Array(4);
      new DataView(size.buffer).setUint32(0, bytes.length);
      return [size, bytes];
    }),
  );
}

/** The order of texts by their bytes. */
function byBytes([a]: [string, string], [b]: [string, string]): number {
  const [x, y] = [toHex(utf8.encode(a)), toHex(utf8.encode(b))];
  return x < y ? -1 : Number(x > y);
}

function encodeEvent(e: wire.AuditEvent, { chain, seq }: Place): Uint8Array | undefined {
  const time = nanosOf(e.created_at);
  if (time === undefined || !isHash(e.prev_hash)) return undefined;
  const place = ["keyfold/trail/event/v1", e.org_id, fromHex(chain), number(BigInt(seq)), number(time), fromHex(e.prev_hash)];
  const texts = [e.actor_type, e.actor_id, e.action, e.resource_type, e.resource_id, e.outcome, e.ip_address ?? "", e.request_id ?? ""];
  return fields(...place, ...texts, ...Object.entries(e.details).sort(byBytes).flat());
}

function encodeCheckpoint(p: wire.AuditCheckpoint): Uint8Array | undefined {
  const time = nanosOf(p.created_at);
  if (time === undefined || !isHash(p.prev_hash)) return undefined;
  const heads: Uint8Array[] = [];
  for (const h of p.heads) {
    const place = placeOf(h.event_id);
    const at = nanosOf(h.created_at);
    if (!place || at === undefined || !isHash(h.integrity_hash)) return undefined;
    heads.push(concat(fromHex(place.chain), number(BigInt(place.seq)), number(at), fromHex(h.integrity_hash)));
  }
  return fields("keyfold/trail/checkpoint/v1", p.org_id, number(BigInt(p.number)), number(time), fromHex(p.prev_hash), p.key_id, ...heads);
}
