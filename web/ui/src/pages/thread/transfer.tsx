// A thread as a file: out of the server, and into a thread.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ErrorInfo, wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client } from "../../session.js";
import { Dialog } from "../../ui/dialog.js";
import { download, Progress } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

const pieceSize = 4 << 20; // bytes that are put together before the browser takes them
const mediaType = "application/x-ndjson";

/** Ends what runs when the dialog is closed. */
function useStop(): { current: AbortController | undefined } {
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  return stop;
}

export function Export({ thread, title, close }: { thread: wire.Thread; title: string; close: () => void }) {
  const [messages, setMessages] = useState<number>();
  const [error, setError] = useState<ErrorInfo>();
  const stop = useStop();
  const run = async () => {
    const { signal } = (stop.current = new AbortController());
    setMessages(0);
    setError(undefined);
    const got = await settle(async () => ({ data: await collected(client.threads.exportLines(thread.id, { signal, onProgress: setMessages })), error: null, meta: { status: 200 } }));
    if (signal.aborted) return;
    setMessages(undefined);
    if (got.error) return setError(got.error);
    download(fileName(title), got.data, mediaType);
    toast("Exported the thread");
    close();
  };
  return (
    <Dialog title="Export the thread" close={close}>
      <div class="stack">
        <p>A file of JSON Lines: each version of each message, deleted ones too. It can be imported into a thread, here or with the command line.</p>
        <p class="notice">{thread.cmek_fingerprint ? "The messages are opened in this page: the file holds them in clear. Keep it as you keep the key file." : "The file holds the messages in clear."}</p>
        <p role="status">{messages !== undefined && `${messages.toLocaleString()} messages so far`}</p>
        <Problem error={error} />
        <div class="actions">
          <button type="button" class="primary" disabled={messages !== undefined} aria-busy={messages !== undefined} onClick={() => void run()}>
            {error ? "Export again" : "Export"}
          </button>
          <button type="button" onClick={close}>
            Cancel
          </button>
        </div>
      </div>
    </Dialog>
  );
}

/** All that comes out of a stream, in pieces that the browser may keep out of its memory. */
async function collected(stream: ReadableStream<Uint8Array>): Promise<Blob> {
  const reader = stream.getReader();
  const pieces: Blob[] = [];
  let [parts, size]: [Uint8Array<ArrayBuffer>[], number] = [[], 0];
  for (let r = await reader.read(); !r.done; r = await reader.read()) {
    parts.push(new Uint8Array(r.value));
    size += r.value.length;
    if (size < pieceSize) continue;
    pieces.push(new Blob(parts));
    [parts, size] = [[], 0];
  }
  return new Blob([...pieces, ...parts]);
}

/** A name for the file that any system takes. */
function fileName(title: string): string {
  return `${title.replace(/[^\w-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80) || "thread"}.jsonl`;
}

/** How far an import is. */
interface Doing {
  /** Bytes of the file that were read. */
  read: number;
  /** Messages that are in the thread. */
  messages: number;
}

export function Import({ thread, close, done }: { thread: wire.Thread; close: () => void; done: () => void }) {
  const [file, setFile] = useState<File>();
  const [doing, setDoing] = useState<Doing>();
  const [stopped, setStopped] = useState<Doing>();
  const [error, setError] = useState<ErrorInfo>();
  const [sum, setSum] = useState<wire.ImportedMessages>();
  const stop = useStop();
  const id = useId();
  const run = async (from: File) => {
    const { signal } = (stop.current = new AbortController());
    const at: Doing = { read: 0, messages: 0 };
    const tell = (change: Partial<Doing>) => setDoing({ ...Object.assign(at, change) });
    tell({});
    setError(undefined);
    setStopped(undefined);
    const lines = counted(from, (read) => tell({ read }));
    const got = await settle(() => client.threads.import(thread.id, lines, { signal, onProgress: (messages) => tell({ messages }) }));
    setDoing(undefined);
    done();
    if (!got.error) return setSum(got.data);
    setStopped(at);
    if (!signal.aborted) setError(got.error);
  };
  return (
    <Dialog title="Import messages" close={close}>
      <div class="stack">
        {sum ? (
          <Imported sum={sum} />
        ) : (
          <>
            <p>The file of an export. Its messages come in at their times, under your name; what the thread has of them already is not brought again, so the same file may be sent twice.</p>
            {thread.cmek_fingerprint && <p class="hint">They are sealed here, under the thread's key, before they leave.</p>}
            <div class="field">
              <label for={id}>File</label>
              <input id={id} type="file" accept={`.jsonl,.ndjson,${mediaType}`} disabled={doing !== undefined} onChange={(e) => setFile(e.currentTarget.files?.[0])} />
            </div>
            {doing && file && <Progress done={doing.read} of={file.size} label="Bytes of the file" />}
            <p role="status">
              {doing && `${doing.messages.toLocaleString()} messages are in the thread`}
              {stopped && `Stopped; ${stopped.messages.toLocaleString()} messages of the file are in the thread. Go on with the same file to bring the rest.`}
            </p>
            <Problem error={error} />
          </>
        )}
        <div class="actions">
          {!sum && (
            <button type="button" class="primary" disabled={!file || doing !== undefined} aria-busy={doing !== undefined} onClick={() => void run(file!)}>
              {stopped ? "Go on" : "Import"}
            </button>
          )}
          {doing ? (
            <button type="button" onClick={() => stop.current?.abort()}>
              Stop
            </button>
          ) : (
            <button type="button" onClick={close}>
              {sum ? "Done" : "Cancel"}
            </button>
          )}
        </div>
      </div>
    </Dialog>
  );
}

function Imported({ sum }: { sum: wire.ImportedMessages }) {
  return (
    <dl class="facts" aria-label="What was imported">
      <dt>Imported</dt>
      <dd>{sum.imported.toLocaleString()}</dd>
      <dt>Were there already</dt>
      <dd>{sum.present.toLocaleString()}</dd>
      {(sum.left_out ?? 0) > 0 && (
        <>
          <dt>Left out</dt>
          <dd>{sum.left_out!.toLocaleString()}: reactions of others, replies to what is not there, messages of which nothing is left</dd>
        </>
      )}
    </dl>
  );
}

/** The pieces of a file, and how many bytes of it were read. */
async function* counted(file: File, tell: (read: number) => void): AsyncGenerator<Uint8Array> {
  const reader = file.stream().getReader();
  let read = 0;
  for (let r = await reader.read(); !r.done; r = await reader.read()) {
    read += r.value.length;
    tell(read);
    yield r.value;
  }
}
