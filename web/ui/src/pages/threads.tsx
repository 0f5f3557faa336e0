// The caller's threads, and those that were shared with them.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { unlocked } from "../keys.js";
import { usePaged } from "../paged.js";
import { client } from "../session.js";
import { Dialog } from "../ui/dialog.js";
import { Choice, Field, Form } from "../ui/form.js";
import { Badge, Head, Table, Time } from "../ui/parts.js";
import { Empty, Loading, Problem } from "../ui/state.js";
import { runsOrg } from "../rights.js";
import { Retention } from "./thread/retention.js";
import "./thread/thread.css";

const pageSize = 50;
const typingPause = 300; // ms

export default function Threads() {
  useEffect(() => void (document.title = "Threads · Keyfold"), []);
  const [search, setSearch] = useState("");
  const [title, setTitle] = useState("");
  const [open, setOpen] = useState<"create" | "retention">();
  useEffect(() => {
    const timer = setTimeout(() => setTitle(search.trim()), typingPause);
    return () => clearTimeout(timer);
  }, [search]);
  const threads = usePaged(
    async (cursor) => {
      const got = await client.threads.list({ limit: pageSize, ...(title ? { title } : {}), ...(cursor === undefined ? {} : { cursor }) });
      return got.error ? got : { ...got, data: { items: got.data.threads, next: got.data.next_cursor } };
    },
    [title],
  );
  return (
    <>
      <Head title="Threads">
        {runsOrg() && (
          <button type="button" onClick={() => setOpen("retention")}>
            How long they are kept
          </button>
        )}
        <button type="button" class="primary" onClick={() => setOpen("create")}>
          Create a thread
        </button>
      </Head>
      <Field label="Search by title" type="search" value={search} onValue={setSearch} />
      <Problem error={threads.error} retry={threads.reload} />
      {threads.items === undefined && threads.loading && <Loading what="threads" />}
      {threads.items?.length === 0 && <None title={title} />}
      {threads.items && threads.items.length > 0 && <List threads={threads.items} />}
      {threads.more && (
        <div class="actions">
          <button type="button" onClick={threads.more} disabled={threads.loading}>
            Show more
          </button>
        </div>
      )}
      {open === "create" && <Create close={() => setOpen(undefined)} />}
      {open === "retention" && <Retention close={() => setOpen(undefined)} />}
    </>
  );
}

function None({ title }: { title: string }) {
  if (title) return <Empty title={`No thread has “${title}” in its title`} />;
  return (
    <Empty title="No threads yet">
      <p>A thread is a conversation with a key of its own: its messages are encrypted under it, and gone with it.</p>
    </Empty>
  );
}

function List({ threads }: { threads: wire.Thread[] }) {
  return (
    <Table label="Threads" columns={["Title", "Yours", "Key", "Changed", "Created"]}>
      {threads.map((t) => (
        <tr key={t.id}>
          <td>
            <a href={`/ui/threads/${encodeURIComponent(t.id)}`}>{t.title || "Untitled"}</a>
          </td>
          <td>{t.part === undefined ? "yes" : <Badge>shared: {t.part}</Badge>}</td>
          <td>{t.cmek_fingerprint ? <Badge kind="sealed">Sealed</Badge> : <span class="quiet">the server's</span>}</td>
          <td class="nowrap">
            <Time at={t.updated_ts / 1e6} />
          </td>
          <td class="nowrap">
            <Time at={t.created_ts / 1e6} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Create({ close }: { close: () => void }) {
  const { route } = useLocation();
  const [title, setTitle] = useState("");
  const [key, setKey] = useState("");
  const keys = [...unlocked.value].map((f): [string, string] => [f, `Your key ${f.slice(0, 8)}…${f.slice(-6)}`]);
  return (
    <Dialog title="Create a thread" close={close}>
      <Form submit="Create the thread" send={() => client.threads.create({ title: title.trim(), ...(key ? { cmek_fingerprint: key } : {}) })} done={(t) => route(`/ui/threads/${encodeURIComponent(t.id)}`)} cancel={close}>
        <Field label="Title" required value={title} onValue={setTitle} />
        {keys.length > 0 && <Choice label="Messages are sealed with" value={key} onValue={setKey} options={[["", "The server's key alone"], ...keys]} />}
        <p class="hint">{keys.length > 0 ? "A thread under your key stays under it: only who has the key file reads its messages." : "For a thread under a key of your own, unlock the key first, in a vault that is sealed with it."}</p>
      </Form>
    </Dialog>
  );
}
