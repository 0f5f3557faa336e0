// The DEKs of the threads: under which version of the KEK each is, and a new one for a thread.

import { useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { usePaged } from "../../paged.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Head, Id, Table, Time } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

export function Deks({ client, started }: { client: KeyfoldClient; started: (job: string) => void }) {
  const threads = usePaged(async (cursor) => {
    const got = await client.admin.listThreads({ limit: 100, ...(cursor === undefined ? {} : { cursor }) });
    return got.error ? got : { ...got, data: { items: got.data.threads, next: got.data.next_cursor } };
  }, [client]);
  const [asked, setAsked] = useState<wire.Thread | "all">();
  const one = typeof asked === "object" ? asked : undefined;
  return (
    <>
      <Head level={2} title="DEKs of threads">
        <button type="button" onClick={threads.reload}>
          Read again
        </button>
        <button type="button" class="danger" onClick={() => setAsked("all")}>
          New DEKs for all
        </button>
      </Head>
      <Problem error={threads.error} retry={threads.reload} />
      <DekTable threads={threads.items} ask={setAsked} />
      {threads.more && (
        <div class="actions">
          <button type="button" onClick={threads.more} disabled={threads.loading}>
            Show more
          </button>
        </div>
      )}
      {asked && (
        <Confirm
          title={one ? "Give the thread a new DEK?" : "Give all threads new DEKs?"}
          submit={one ? "Make a new DEK" : "Make new DEKs"}
          {...(one ? {} : { name: "all threads" })}
          send={() => client.admin.rotateThreadDek(one ? { thread_id: one.id } : { all: true })}
          done={({ job_id }) => {
            setAsked(undefined);
            toast(one ? "The thread has a new DEK" : "The threads get new DEKs, one after the other");
            started(job_id);
            threads.reload();
          }}
          close={() => setAsked(undefined)}
        >
          <p>A job encrypts {one ? `the messages of ${one.title || "the thread"}` : "the messages of every thread"} under the new DEK. When it has ended, the old one is destroyed.</p>
        </Confirm>
      )}
    </>
  );
}

function DekTable({ threads, ask }: { threads: wire.Thread[] | undefined; ask: (thread: wire.Thread) => void }) {
  if (!threads) return <Loading what="threads" />;
  if (threads.length === 0) {
    return (
      <Empty title="No threads">
        <p>Each thread has a DEK of its own, which is shown here.</p>
      </Empty>
    );
  }
  const newest = Math.max(...threads.map((t) => t.kms?.kek_version ?? 0));
  return (
    <Table label="DEKs of threads" columns={["Thread", "DEK", "KEK version", "Thread made", "Last change", "Actions"]}>
      {threads.map((t) => (
        <tr key={t.id}>
          <td>
            {t.title || <span class="quiet">no title</span>} {t.deleted && <Badge>deleted</Badge>}
            <br />
            <Id value={t.id} what="the thread's ID" />
          </td>
          <td>{t.kms ? <Id value={t.kms.key_id} what="the DEK's ID" /> : <Badge kind="warn">in clear</Badge>}</td>
          <td>
            {t.kms && t.kms.kek_version} {t.kms && t.kms.kek_version < newest && <Badge kind="warn">to be rewrapped</Badge>}
          </td>
          <td>
            <Time at={t.created_ts / 1e6} />
          </td>
          <td>
            <Time at={t.updated_ts / 1e6} />
          </td>
          <td>
            {t.kms && !t.deleted && (
              <button type="button" class="small" onClick={() => ask(t)} aria-label={`New DEK for ${t.title || t.id}`}>
                New DEK
              </button>
            )}
          </td>
        </tr>
      ))}
    </Table>
  );
}
