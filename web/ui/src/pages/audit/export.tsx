// The trail as a file, with the signatures that prove it to those who do not trust the server.

import { useEffect, useRef, useState } from "preact/hooks";
import { KeyfoldError, type ErrorInfo } from "@keyfold/sdk";
import { client } from "../../session.js";
import { download } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { timesOf, type Filter } from "./filter.js";

export function ExportTrail({ filter }: { filter: Filter }) {
  const [error, setError] = useState<ErrorInfo | null>(null);
  const [bytes, setBytes] = useState<number>();
  const running = useRef<AbortController>(undefined);
  useEffect(() => () => running.current?.abort(), []);
  const run = async () => {
    const controller = new AbortController();
    running.current = controller;
    setError(null);
    setBytes(0);
    try {
      const file = await read(filter, controller.signal, setBytes);
      download(`audit-${new Date().toISOString().slice(0, 10)}.jsonl`, file, "application/x-ndjson");
      toast("Exported the trail");
    } catch (err) {
      if (!controller.signal.aborted) setError(infoOf(err));
    } finally {
      running.current = undefined;
      setBytes(undefined);
    }
  };
  const bounded = filter.from !== "" || filter.to !== "";
  return (
    <section class="card" aria-label="Export">
      <h2>Export</h2>
      <p class="quiet">
        All events {bounded ? "of the times that the filter names" : "from the first on"}, whoever they are of, as JSON Lines with their checkpoints and keys. <code>keyfold audit verify</code> checks the file without the server.
      </p>
      <div class="actions">
        <button type="button" disabled={bytes !== undefined} aria-busy={bytes !== undefined} onClick={() => void run()}>
          Export the trail
        </button>
        {bytes !== undefined && (
          <>
            <button type="button" onClick={() => running.current?.abort()}>
              Cancel
            </button>
            <span role="status">{Math.ceil(bytes / 1024).toLocaleString()} KB read</span>
          </>
        )}
      </div>
      <Problem error={error} />
    </section>
  );
}

/** Reads the whole export. One without its last line was cut off, and is an error. */
async function read(filter: Filter, signal: AbortSignal, progress: (bytes: number) => void): Promise<Blob> {
  const got = await client.audit.export(timesOf(filter), signal);
  if (got.error) throw got.error;
  const reader = got.data.getReader();
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (let r = await reader.read(); !r.done; r = await reader.read()) {
    pieces.push(new Uint8Array(r.value));
    progress((size += r.value.length));
  }
  const file = new Blob(pieces);
  const tail = await file.slice(Math.max(0, size - 200)).text();
  if (!/\n?\{"end":\{[^\n]*\}\}\n$/.test(tail)) throw new KeyfoldError("The export was cut off; ask for it again");
  return file;
}

function infoOf(err: unknown): ErrorInfo {
  if (err instanceof KeyfoldError) return err.info();
  if (typeof err === "object" && err !== null && "message" in err && "type" in err) return err as ErrorInfo;
  return new KeyfoldError("The export broke off; ask for it again").info();
}
