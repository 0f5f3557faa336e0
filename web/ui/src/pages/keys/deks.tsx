// The DEKs of the threads: under which version of the KEK each is, and a new one for a thread.

import { useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { usePaged } from "../../paged.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Head, Id, Table, Time, type Column } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { Age, inDays } from "./age.js";

export function Deks({ client, maxAge, started }: { client: KeyfoldClient; maxAge: number | undefined; started: (job: string) => void }) {
  const threads = usePaged(async (cursor) => {
    const got = await client.admin.listThreads({ limit: 100, ...(cursor === undefined ? {} : { cursor }) });
    return got.error ? got : { ...got, data: { items: got.data.threads, next: got.data.next_cursor } };
  }, [client]);
  const [asked, setAsked] = useState<wire.Thread | "all">();
  const one = typeof asked === "object" ? asked : undefined;
  return (
    <section class="card">
      <Head level={2} title="DEKs of threads">
        <button type="button" class="small" onClick={threads.reload}>
          Read again
        </button>
        <button type="button" class="small danger" onClick={() => setAsked("all")}>
          New DEKs for all
        </button>
      </Head>
      <p class="hint">
        Each thread has a DEK of its own, which its messages are encrypted with in the key process.{maxAge ? ` By the operator's policy a DEK is due after ${inDays(maxAge)}.` : ""}
      </p>
      <Problem error={threads.error} retry={threads.reload} />
      {threads.items === undefined && !threads.error && <Loading what="threads" />}
      {threads.items && <DekTable threads={threads.items} maxAge={maxAge} ask={setAsked} />}
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
    </section>
  );
}

const columns: readonly (string | Column)[] = ["Thread", "DEK", "DEK made", { name: "KEK version", kind: "num" }, "Last change", { name: "Actions", kind: "sr" }];

function DekTable({ threads, maxAge, ask }: { threads: wire.Thread[]; maxAge: number | undefined; ask: (thread: wire.Thread) => void }) {
  if (threads.length === 0) {
    return (
      <Empty title="No threads">
        <p>Once there are threads, their DEKs are shown here.</p>
      </Empty>
    );
  }
  const newest = Math.max(...threads.map((t) => t.kms?.kek_version ?? 0));
  return (
    <Table label="DEKs of threads" columns={columns}>
      {threads.map((t) => (
        <Row key={t.id} thread={t} maxAge={maxAge} newest={newest} ask={ask} />
      ))}
    </Table>
  );
}

function Row({ thread: t, maxAge, newest, ask }: { thread: wire.Thread; maxAge: number | undefined; newest: number; ask: (thread: wire.Thread) => void }) {
  const { kms } = t;
  return (
    <tr>
      <td>
        {t.title || <span class="quiet">no title</span>} {t.deleted && <Badge>deleted</Badge>}
        <br />
        <Id value={t.id} what="the thread's ID" />
      </td>
      <td>{kms ? <Id value={kms.key_id} what="the DEK's ID" /> : <Badge kind="warn">in clear</Badge>}</td>
      <td>{kms && <Age at={kms.created_ts === undefined ? undefined : kms.created_ts / 1e6} max={t.deleted ? undefined : maxAge} />}</td>
      <td class="num">
        {kms && kms.kek_version < newest && <Badge kind="warn">to be rewrapped</Badge>} {kms?.kek_version}
      </td>
      <td>
        <Time at={t.updated_ts / 1e6} />
      </td>
      <td class="end">
        {kms && !t.deleted && (
          <button type="button" class="small" onClick={() => ask(t)} aria-label={`New DEK for ${t.title || t.id}`}>
            New DEK
          </button>
        )}
      </td>
    </tr>
  );
}
