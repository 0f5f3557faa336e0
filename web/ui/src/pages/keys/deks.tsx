// The DEKs of the threads: their states and uses, under which version of the KEK each
// is, and a new one for a thread.

import { useEffect, useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { usePaged } from "../../paged.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Head, Id, Table, type Column } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { Age, inDays } from "./age.js";
import { State, Uses } from "./use.js";

/** A thread with its DEKs: the one in use, and while it is replaced the one before. */
interface Kept {
  thread: wire.Thread;
  deks: wire.Dek[];
}

/** What is told of all DEKs. */
interface DeksInfo {
  message?: string | undefined;
  limit?: number | undefined;
}

/** over is how many jobs have ended that were started here: then the DEKs are read again. */
export function Deks({ client, maxAge, over, started }: { client: KeyfoldClient; maxAge: number | undefined; over: number; started: (job: string) => void }) {
  const [info, setInfo] = useState<DeksInfo>({});
  const threads = usePaged(async (cursor) => {
    const got = await client.admin.listThreads({ limit: 100, ...(cursor === undefined ? {} : { cursor }) });
    if (got.error) return got;
    const { items, ...info } = await withDeks(client, got.data.threads);
    if (info.message !== undefined || info.limit !== undefined) setInfo(info); // a page of threads in clear tells nothing
    return { ...got, data: { items, next: got.data.next_cursor } };
  }, [client]);
  useEffect(() => {
    if (over > 0) threads.reload();
  }, [over]);
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
        Each thread has a DEK of its own, which its messages are encrypted with in the key process. A new one has an ID of its own and replaces it. Encryptions are counted as the key process reserves them, some thousands at a time.{maxAge ? ` By the operator's policy a DEK is due after ${inDays(maxAge)}.` : ""}
      </p>
      <Problem error={threads.error} retry={threads.reload} />
      {threads.items === undefined && !threads.error && <Loading what="threads" />}
      {info.message && <p class="notice">{info.message}</p>}
      {threads.items && <DekTable threads={threads.items} limit={info.limit} maxAge={maxAge} ask={setAsked} />}
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

/** The threads with what is told of their DEKs: at least what the list of threads tells. */
async function withDeks(client: KeyfoldClient, threads: readonly wire.Thread[]): Promise<DeksInfo & { items: Kept[] }> {
  const encrypted = threads.filter((t) => t.kms);
  const told = encrypted.length > 0 ? await settle(() => client.admin.listDeks(encrypted.map((t) => t.id))) : undefined;
  const items = threads.map((thread) => ({ thread, deks: told?.data?.deks.filter((d) => d.thread_id === thread.id) ?? listed(thread) }));
  return { items, message: told?.error?.message ?? told?.data?.message, limit: told?.data?.seal_limit };
}

function listed({ id, kms }: wire.Thread): wire.Dek[] {
  if (!kms) return [];
  return [{ thread_id: id, key_id: kms.key_id, state: "enabled", kek_version: kms.kek_version, ...(kms.created_ts ? { created_at: new Date(kms.created_ts / 1e6).toISOString() } : {}) }];
}

const num = (name: string) => ({ name, kind: "num" as const });
const columns: readonly (string | Column)[] = ["Thread", "DEK", "State", "Made", num("Encryptions"), num("KEK version"), { name: "Actions", kind: "sr" }];

interface Shown {
  maxAge: number | undefined;
  limit: number | undefined;
  ask: (thread: wire.Thread) => void;
}

function DekTable({ threads, ...shown }: Shown & { threads: Kept[] }) {
  if (threads.length === 0) {
    return (
      <Empty title="No threads">
        <p>Once there are threads, their DEKs are shown here.</p>
      </Empty>
    );
  }
  const newest = Math.max(...threads.flatMap(({ deks }) => deks.map((d) => d.kek_version)));
  return (
    <Table label="DEKs of threads" columns={columns}>
      {threads.map((kept) => (
        <Rows key={kept.thread.id} kept={kept} newest={newest} {...shown} />
      ))}
    </Table>
  );
}

/** A row for the DEK in use, and one for the DEK before it while that is replaced. */
function Rows({ kept: { thread: t, deks }, newest, maxAge, limit, ask }: Shown & { kept: Kept; newest: number }) {
  const [dek, ...before] = deks;
  return (
    <>
      <tr>
        <td>
          {t.title || <span class="quiet">no title</span>} {t.deleted && <Badge>deleted</Badge>}
          <br />
          <Id value={t.id} what="the thread's ID" />
        </td>
        {dek ? <Cells dek={dek} newest={newest} limit={limit} maxAge={t.deleted ? undefined : maxAge} /> : <InClear thread={t} />}
        <td class="end">
          {dek && !t.deleted && (
            <button type="button" class="small" onClick={() => ask(t)} aria-label={`New DEK for ${t.title || t.id}`}>
              New DEK
            </button>
          )}
        </td>
      </tr>
      {before.map((d) => (
        <tr key={d.key_id}>
          <td class="quiet">the one before, until a job has replaced it</td>
          <Cells dek={d} newest={newest} limit={limit} maxAge={undefined} />
          <td />
        </tr>
      ))}
    </>
  );
}

function InClear({ thread }: { thread: wire.Thread }) {
  return <td colSpan={5}>{thread.kms ? <span class="quiet">just replaced: read again</span> : <Badge kind="warn">in clear</Badge>}</td>;
}

function Cells({ dek, newest, limit, maxAge }: { dek: wire.Dek; newest: number; limit: number | undefined; maxAge: number | undefined }) {
  return (
    <>
      <td>
        <Id value={dek.key_id} what="the DEK's ID" />
      </td>
      <td>
        <State of={dek.state} />
      </td>
      <td>
        <Age at={dek.created_at} max={maxAge} />
      </td>
      <td class="num">{dek.seals === undefined ? <span class="quiet">not told</span> : <Uses count={dek.seals} limit={limit} />}</td>
      <td class="num">
        {dek.kek_version < newest && <Badge kind="warn">to be rewrapped</Badge>} {dek.kek_version}
      </td>
    </>
  );
}
