// Export and import of threads as JSON Lines. A line's text is kept as it came, but
// for a body that is sealed or opened: JSON.parse would cut digits off its numbers.

import { openBody, sealBody, type Bodies } from "./bodies.js";
import { KeyfoldError, NetworkError, NotFoundError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import type { ClientKey } from "./keys.js";
import type { Answer } from "./result.js";
import type * as wire from "./types.js";

export interface ExportOptions {
  /** How many messages have come. */
  onProgress?: (messages: number) => void;
  /** Ends the export, which then throws a NetworkError with the code "aborted". */
  signal?: AbortSignal;
}

export interface ImportOptions {
  /** How many messages are in the thread; told after each part. */
  onProgress?: (messages: number) => void;
  /** The lines are no whole export: the last line, which counts them, may be missing. */
  partial?: boolean;
  /** Ends the import between two parts. */
  signal?: AbortSignal;
}

/** JSON Lines, in pieces of any size: of a file, of exportLines, of an array. */
export type LinesSource = ReadableStream<Uint8Array> | AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;

const media = "application/x-ndjson";
const maxLine = 16 << 20; // characters
const pageSize = 200;

// A part of an import: within the server's bounds, also when bodies are sealed.
const partLines = 1000;
const partBytes = 4 << 20;

const cutOff = (what: string) => new KeyfoldError(what, { code: "cut_off" });

/** A line of an export. */
interface Line {
  text: string;
  /** The last line, which counts the messages. */
  end: boolean;
  messages: number;
  id: string;
  /** As a message's ID begins with it; "": there is none. */
  time: string;
  /** Where the body is in text. */
  body: Span | undefined;
}

/** From and to. */
type Span = [number, number];

/** The lines of a thread's export, the last one too, with opened bodies. */
export async function* exported(http: Http, bodies: Bodies, threadId: string, options: ExportOptions): AsyncGenerator<Line, void, undefined> {
  const path = pathOf("threads", threadId, "export");
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (options.signal?.aborted) abort();
  options.signal?.addEventListener("abort", abort);
  try {
    const key = await bodies.key(threadId);
    let [messages, last] = [0, ""];
    const stream = await http.stream(path, media, {}, controller.signal);
    for await (const text of linesOf(piecesOf(stream))) {
      const line = parseLine(text);
      if (line === undefined || (line.end ? line.messages !== messages : line.id === "")) break;
      if (line.end) return yield line;
      if (line.id !== last) {
        last = line.id;
        messages++;
        options.onProgress?.(messages);
      }
      if (key !== undefined && line.body !== undefined) {
        const opened = await openBody(key, threadId, JSON.parse(text.slice(...line.body)));
        line.text = replaced(line, opened.replace(/[\r\n]/g, " ")); // which stand between tokens alone
      }
      yield line;
    }
    throw cutOff("The export was cut off; ask for it again");
  } catch (err) {
    if (err instanceof KeyfoldError) throw err;
    throw new NetworkError(`The export from ${http.baseUrl} broke off`, { code: controller.signal.aborted ? "aborted" : "connection_failed" });
  } finally {
    options.signal?.removeEventListener("abort", abort);
    abort();
  }
}

/** Brings lines into a thread. */
export async function imported(http: Http, bodies: Bodies, threadId: string, source: LinesSource, options: ImportOptions): Promise<Answer<wire.ImportedMessages>> {
  const path = pathOf("threads", threadId, "import");
  const key = await bodies.sealingKey(threadId);
  const sum = { imported: 0, present: 0, left_out: 0 };
  let status = 0;
  let [part, size, brought]: [Line[][], number, number] = [[], 0, 0];
  const send = async () => {
    if (part.length === 0) return;
    if (options.signal?.aborted) throw new NetworkError("The import was aborted; send the same lines again to go on", { code: "aborted" });
    const flat = part.flat();
    const texts = key === undefined ? flat.map((l) => l.text) : await sealed(http, key, threadId, part);
    const got = await http.answer<wire.ImportedMessages>("POST", path, { lines: texts.join("\n") + "\n", signal: options.signal });
    sum.imported += got.data.imported;
    sum.present += got.data.present;
    sum.left_out += got.data.left_out ?? 0;
    status = got.status;
    brought += part.length;
    [part, size] = [[], 0];
    options.onProgress?.(brought);
  };
  let [lines, whole] = [0, false];
  for await (const versions of messagesOf(source, (end) => (whole = end.messages === brought + part.length))) {
    const bytes = versions.reduce((n, v) => n + new TextEncoder().encode(v.text).length, 0);
    if (lines + versions.length > partLines || size + bytes > partBytes) {
      await send();
      lines = 0;
    }
    part.push(versions);
    lines += versions.length;
    size += bytes;
  }
  await send();
  if (!whole && !options.partial) throw cutOff("The lines were imported, but they are not whole: the last one does not count the messages. Export the thread again");
  return { data: sum, status, headers: new Headers() };
}

/** The messages of lines, each with its versions. end is called with the last line. */
async function* messagesOf(source: LinesSource, end: (line: Line) => void): AsyncGenerator<Line[], void, undefined> {
  let [message, n, ended]: [Line[], number, boolean] = [[], 0, false];
  for await (const text of linesOf(piecesOf(source))) {
    n++;
    if (text.trim() === "") continue;
    const line = parseLine(text);
    if (line === undefined || ended) throw new KeyfoldError(`Line ${n} is none of an export; what came before it was imported`);
    if (message.length > 0 && (line.end || line.id === "" || line.id !== message[0]!.id)) {
      yield message;
      message = [];
    }
    ended = line.end;
    if (line.end) end(line);
    else message.push(line);
  }
  if (message.length > 0) yield message;
}

/**
 * The texts of lines with their bodies sealed. The server knows a message again by its
 * time and its first body, and no two seals are the same: of a message that the thread
 * has, the blob that lies there is sent.
 */
async function sealed(http: Http, key: ClientKey, threadId: string, messages: Line[][]): Promise<string[]> {
  const has = await present(http, key, threadId, messages);
  const texts: string[] = [];
  for (const versions of messages) {
    for (const [i, line] of versions.entries()) {
      if (line.body === undefined) {
        texts.push(line.text);
        continue;
      }
      const body = line.text.slice(...line.body);
      if (body === "null") throw new KeyfoldError("A body is null; it is any JSON value but that");
      const blob = (i === 0 && taken(has.get(line.time), body)) || (await sealBody(key, threadId, body));
      texts.push(replaced(line, JSON.stringify(blob)));
    }
  }
  return texts;
}

/** The first body of a message that is there: as it lies, and opened. */
interface PresentBody {
  blob: string;
  text: string;
}

/** The blob of a body of this text, which is taken away: two equal lines are two messages. */
function taken(there: PresentBody[] | undefined, text: string): string | undefined {
  const i = there?.findIndex((b) => compact(b.text) === compact(text)) ?? -1;
  return i < 0 ? undefined : there!.splice(i, 1)[0]!.blob;
}

/** What the thread has of the times of messages. */
async function present(http: Http, key: ClientKey, threadId: string, messages: Line[][]): Promise<Map<string, PresentBody[]>> {
  const has = new Map<string, PresentBody[]>();
  for (const [first] of messages) if (first!.body !== undefined && first!.time !== "") has.set(first!.time, []);
  const times = [...has.keys()].sort();
  if (times.length === 0) return has;
  const before = BigInt(times[0]!) - 1n;
  const after = before > 0n ? `${timeOf(before)}-999999` : undefined;
  for await (const m of messagesAfter(http, threadId, after, { include_deleted: true })) {
    const time = m.id.slice(0, 20);
    if (time > times.at(-1)!) break;
    if (!has.has(time)) continue;
    const blob = await firstBody(http, threadId, m);
    try {
      has.get(time)!.push({ blob: blob as string, text: await openBody(key, threadId, blob) });
    } catch (err) {
      if (!(err instanceof KeyfoldError)) throw err; // what does not open is none of the lines
    }
  }
  return has;
}

/** The body of the first version of a message, as it lies; undefined: it is gone. */
async function firstBody(http: Http, threadId: string, m: wire.Message): Promise<unknown> {
  if ((m.version ?? 1) <= 1 && !m.deleted) return m.body;
  try {
    const path = pathOf("threads", threadId, "messages", m.id, "versions");
    return (await http.get<wire.MessageVersions>(path, { query: { limit: 1 } })).versions[0]?.body;
  } catch (err) {
    if (err instanceof NotFoundError) return undefined; // purged since
    throw err;
  }
}

// The first two IDs that a message can have: no time is less than 1.
const firstId = "00000000000000000001-000000";
const secondId = "00000000000000000001-000001";

/** The messages of a thread after the one with this ID, or from the first one on, as they lie. */
export async function* messagesAfter(
  http: Http, threadId: string, after: string | undefined, more: { include_deleted?: boolean } = {},
): AsyncGenerator<wire.Message, void, undefined> {
  const path = pathOf("threads", threadId, "messages");
  // after leaves out the ID that it names, so the very first is asked for by before.
  let query: { limit: number; before?: string; after?: string } = after ? { limit: pageSize, after } : { limit: 1, before: secondId };
  for (;;) {
    const { messages } = await http.get<wire.Messages>(path, { query: { ...query, ...more } });
    for (const m of messages) {
      if (query.after !== undefined && m.id <= query.after) throw new KeyfoldError("The server answers with a page that was read already");
      yield m;
    }
    const last = messages.at(-1);
    if (query.before !== undefined) query = { limit: pageSize, after: firstId };
    else if (last === undefined) return; // a page of large messages may be short, and is not the end
    else query = { limit: pageSize, after: last.id };
  }
}

/** The pieces of a source, in any environment: not all can iterate over a stream. */
async function* piecesOf(source: LinesSource): AsyncGenerator<string | Uint8Array, void, undefined> {
  if (typeof source === "string") return yield source;
  if (!("getReader" in source)) return yield* source;
  const reader = source.getReader();
  try {
    for (let r = await reader.read(); !r.done; r = await reader.read()) yield r.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Lines without their ends. The last may lack one. */
async function* linesOf(pieces: AsyncIterable<string | Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let rest = "";
  for await (const piece of pieces) {
    const parts = (typeof piece === "string" ? piece : decoder.decode(piece, { stream: true })).split("\n");
    parts[0] = rest + parts[0]!;
    rest = parts.pop()!;
    if (rest.length > maxLine) throw new KeyfoldError("A line is over the limit of 16 Mi characters");
    for (const part of parts) yield part;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}

/** A line as it is read; undefined: it is none. */
function parseLine(text: string): Line | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined; // the cause could quote a body
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined;
  const l = parsed as Record<string, unknown>;
  const at = members(text);
  const ts = at.has("ts") ? text.slice(...at.get("ts")!) : "";
  return {
    text,
    end: l["end"] === true,
    messages: Number(l["messages"] ?? 0),
    id: typeof l["id"] === "string" ? l["id"] : "",
    time: /^[1-9]\d{0,18}$/.test(ts) ? timeOf(BigInt(ts)) : "",
    body: at.get("body"),
  };
}

const timeOf = (ts: bigint) => String(ts).padStart(20, "0");

const replaced = ({ text, body }: Line, by: string) => text.slice(0, body![0]) + by + text.slice(body![1]);

/** Where the members of a JSON object are in its text, which is valid. */
function members(text: string): Map<string, Span> {
  const out = new Map<string, Span>();
  let i = text.indexOf("{") + 1;
  for (;;) {
    while (text[i] !== '"') if (text[i++] === "}") return out; // past space and commas
    const name = stringEnd(text, i);
    let from = text.indexOf(":", name) + 1;
    while (isSpace(text[from]!)) from++;
    const to = valueEnd(text, from);
    out.set(JSON.parse(text.slice(i, name)) as string, [from, to]);
    i = to;
  }
}

/** Behind the string that begins at i. */
function stringEnd(text: string, i: number): number {
  for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
  return i + 1;
}

/** Behind the value that begins at i. */
function valueEnd(text: string, i: number): number {
  if (text[i] === '"') return stringEnd(text, i);
  if (text[i] !== "{" && text[i] !== "[") {
    while (!isSpace(text[i]!) && text[i] !== "," && text[i] !== "}") i++;
    return i;
  }
  for (let depth = 0; ; ) {
    const c = text[i]!;
    if (c === '"') {
      i = stringEnd(text, i);
      continue;
    }
    i++;
    if (c === "{" || c === "[") depth++;
    else if ((c === "}" || c === "]") && --depth === 0) return i;
  }
}

const isSpace = (c: string) => c === " " || c === "\t" || c === "\r" || c === "\n";

/** A JSON text without the space between its tokens. */
function compact(text: string): string {
  let out = "";
  for (let i = 0; i < text.length; ) {
    const end = text[i] === '"' ? stringEnd(text, i) : i + 1;
    if (!isSpace(text[i]!)) out += text.slice(i, end);
    i = end;
  }
  return out;
}
