// Following a thread: against a fetch of our own, and against a real server.

import { createClient, GoneError, KeyfoldError, NetworkError, type FollowOptions, type KeyfoldClient, type ThreadEvent } from "@keyfold/sdk";
import { data, equal, failure, ok, same, utf8, type Case } from "./suite.js";

type Reply = (signal: AbortSignal) => Response | Promise<Response>;

/** A client whose calls get these replies, the last one for ever; and the Last-Event-ID of each. */
function scripted(...replies: Reply[]): { client: KeyfoldClient; after: (string | undefined)[]; signals: AbortSignal[] } {
  const after: (string | undefined)[] = [];
  const signals: AbortSignal[] = [];
  const fake: typeof fetch = async (input, init) => {
    if (String(input) === "https://keyfold.example/v1/threads/t%201") return new Response('{"id":"t 1"}', { headers: { "Content-Type": "application/json" } });
    equal(String(input), "https://keyfold.example/v1/threads/t%201/events");
    const headers = init!.headers as Record<string, string>;
    equal(headers["Authorization"], "Bearer 1ck_x");
    after.push(headers["Last-Event-ID"]);
    signals.push(init!.signal!);
    return replies[Math.min(after.length, replies.length) - 1]!(init!.signal!);
  };
  return { client: createClient({ baseUrl: "https://keyfold.example", apiKey: "1ck_x", cmekKey: false, fetch: fake }), after, signals };
}

/** A stream that comes in pieces of size bytes, and ends or hangs. */
function stream(text: string, { size = 7, hangs = false } = {}): Reply {
  return (signal) => {
    if (signal.aborted) throw new DOMException("aborted", "AbortError");
    const bytes = utf8(": hello\nretry: 1\n\n" + text);
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => signal.addEventListener("abort", () => controller.error(new DOMException("aborted", "AbortError"))),
      pull: (controller) => {
        if (at < bytes.length) controller.enqueue(bytes.slice(at, (at += size)));
        else if (!hangs) controller.close();
        else return new Promise(() => {});
        return undefined;
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  };
}

const at = (n: number) => String(n).padStart(20, "0") + "-000000";
const created = (n: number, text = "ключ🔑") =>
  `id: ${at(n)}\nevent: created\ndata: {"thread":"t 1",\ndata: "message_id":"${n}","message":{"body":"${text}"}}\n\n`;
const beat = (n: number) => `:\nid: ${at(n)}\n\n`;
const refused = (status: number, headers = {}) => () =>
  new Response(JSON.stringify({ type: "about:blank", title: "t", status, detail: "told" }), { status, headers: { "Content-Type": "application/problem+json", ...headers } });
const lost = () => Promise.reject(new TypeError("fetch failed"));

async function collect(client: KeyfoldClient, options: FollowOptions = {}, each?: () => void): Promise<{ got: ThreadEvent[]; err: Error & { code?: string } }> {
  const got: ThreadEvent[] = [];
  const err = await failure(
    (async () => {
      for await (const event of client.threads.follow("t 1", options)) {
        got.push(event);
        each?.();
      }
    })(),
  );
  return { got, err };
}

export const following: Case[] = [
  {
    name: "a follower goes on where it was, and skips what it has",
    run: async () => {
      for (const size of [1, 7, 100_000]) {
        const { client, after } = scripted(
          stream(beat(5), { size }), stream(created(7) + created(9) + "id: 10\nevent: cut", { size }), lost,
          stream((created(7) + created(8) + created(9) + beat(11)).replaceAll("\n", "\r\n"), { size }), refused(502), stream(created(12), { size }), refused(410),
        );
        let told = "";
        const { got, err } = await collect(client, { onOpen: () => void (told += "o"), onClose: () => void (told += "c") });
        equal(told, "ococcoccoc"); // open where a stream began, closed where it ended or none began, and not at the last
        same(got.map((e) => [e.id, e.kind, e.message_id, (e.message as { body: string }).body]), [7, 9, 8, 12].map((n) => [at(n), "created", String(n), "ключ🔑"]));
        ok(err instanceof GoneError, String(err));
        same(after, [undefined, at(5), at(9), at(9), at(11), at(11), at(12)]);
      }
    },
  },
  {
    name: "a follower ends at what time does not mend",
    run: async () => {
      const cases: [string, Reply[], number][] = [
        ["auth_error", [refused(401)], 1], ["auth_error", [stream(""), refused(403)], 2], ["not_found", [refused(404)], 1], ["server_error", [refused(500)], 1],
        ["unknown", [lost], 4], ["server_error", [refused(503)], 4], ["unknown", [() => new Response("{}")], 1], ["unknown", [stream("id: 1\nevent: created\ndata: canary\n\n")], 1],
      ];
      for (const [type, replies, calls] of cases) {
        const { client, after } = scripted(...replies);
        const { err } = await collect(client);
        ok(err instanceof KeyfoldError && !String(err.stack).includes("canary"), String(err));
        equal(err.type, type);
        equal(after.length, calls, type);
      }
    },
  },
  {
    name: "a follower leaves when its loop does, and when its signal says so",
    run: async () => {
      const { client, signals } = scripted(stream(created(1), { hangs: true }));
      for await (const event of client.threads.follow("t 1", { after: "x" })) {
        equal(event.message_id, "1");
        break;
      }
      ok(signals[0]!.aborted, "the stream is not ended");
      const controller = new AbortController();
      const { got, err } = await collect(client, { signal: controller.signal }, () => setTimeout(() => controller.abort(), 20)); // while it waits for the next
      equal(got.length, 1);
      ok(err instanceof NetworkError && err.code === "aborted", String(err));
      equal(((await collect(client, { signal: controller.signal })).err).code, "aborted");
      equal((await failure(client.threads.follow("..").next())).name, "KeyfoldError");
    },
  },
  {
    name: "a thread is followed",
    run: async (w) => {
      const client = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false });
      const thread = data(await client.threads.create({ title: "followed" })).id;
      const first = data(await client.messages.post(thread, { body: "before" })).id;
      const bodies: unknown[] = [];
      for await (const event of client.threads.follow(thread, { after: first })) {
        bodies.push((event.message as { body: unknown }).body);
        if (bodies.length === 1) data(await client.messages.post(thread, { body: { text: "ключ🔑", list: [1, null] } }));
        else break;
      }
      same(bodies, ["before", { text: "ключ🔑", list: [1, null] }]);
      data(await client.threads.delete(thread));
      equal((await failure(client.threads.follow(thread).next())).type, "not_found");
    },
  },
];
