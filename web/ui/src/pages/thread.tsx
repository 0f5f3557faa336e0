// One thread: its conversation, who takes part, and its key.

import { useLocation, useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { unlocked } from "../keys.js";
import { useLoad } from "../load.js";
import { runsOrg } from "../rights.js";
import { client, user } from "../session.js";
import { Confirm, Dialog } from "../ui/dialog.js";
import { Field, Form } from "../ui/form.js";
import { Badge, Head } from "../ui/parts.js";
import { Show } from "../ui/state.js";
import { toast } from "../ui/toast.js";
import { Conversation } from "./thread/conversation.js";
import { Dek } from "./thread/dek.js";
import { Facts } from "./thread/facts.js";
import { LegalHold } from "./thread/hold.js";
import { useNames } from "./thread/names.js";
import { Participants } from "./thread/participants.js";
import { Export, Import } from "./thread/transfer.js";
import { UnlockButton } from "./vault/unlock.js";
import "./thread/thread.css";

export default function Thread() {
  const { params } = useRoute();
  const id = params["thread"] ?? "";
  const thread = useLoad(() => client.threads.get(id), [id]);
  return (
    <Show of={thread} what="the thread" title="Thread">
      {(t) => <Opened key={t.id} thread={t} reload={thread.reload} />}
    </Show>
  );
}

function Opened({ thread, reload }: { thread: wire.Thread; reload: () => void }) {
  const names = useNames();
  const [open, setOpen] = useState<"rename" | "delete" | "export" | "import">();
  const [turn, setTurn] = useState(0); // imported messages are at their own times, of which the events of now do not tell
  const title = thread.title || "Untitled";
  const own = thread.author === user.value?.id;
  const locked = thread.cmek_fingerprint !== undefined && !unlocked.value.has(thread.cmek_fingerprint);
  useEffect(() => void (document.title = `${title} · Threads · Keyfold`), [title]);
  return (
    <>
      <p class="trail">
        <a href="/ui/threads">Threads</a>
      </p>
      <Head
        title={
          <>
            {title} {thread.cmek_fingerprint && <Badge kind="sealed">Sealed</Badge>} {thread.part && <Badge>shared: {thread.part}</Badge>}
          </>
        }
      >
        {!locked && (
          <button type="button" onClick={() => setOpen("export")}>
            Export
          </button>
        )}
        {!locked && (own || thread.part === "write") && (
          <button type="button" onClick={() => setOpen("import")}>
            Import
          </button>
        )}
        {own && (
          <>
            <button type="button" onClick={() => setOpen("rename")}>
              Rename
            </button>
            <button type="button" class="danger" onClick={() => setOpen("delete")}>
              Delete
            </button>
          </>
        )}
      </Head>
      <div class="thread">
        {locked ? <Locked fingerprint={thread.cmek_fingerprint} /> : <Conversation key={turn} thread={thread} own={own} names={names} changed={reload} />}
        <div class="stack">
          <Facts thread={thread} names={names} />
          <Participants thread={thread} own={own} names={names} />
          <Dek thread={thread} />
          {runsOrg() && <LegalHold thread={thread} names={names} />}
        </div>
      </div>
      {open === "export" && <Export thread={thread} title={title} close={() => setOpen(undefined)} />}
      {open === "import" && <Import thread={thread} close={() => setOpen(undefined)} done={() => setTurn(turn + 1)} />}
      {open === "rename" && <Rename thread={thread} close={() => setOpen(undefined)} done={reload} />}
      {open === "delete" && <Delete thread={thread} title={title} close={() => setOpen(undefined)} />}
    </>
  );
}

function Locked({ fingerprint }: { fingerprint: string | undefined }) {
  return (
    <div class="empty">
      <h3>This thread is under a key of its own</h3>
      <p>Its messages are encrypted with a key that the server does not have. To read and write here, unlock the key with its key file; it stays in this tab.</p>
      <UnlockButton fingerprint={fingerprint} primary />
    </div>
  );
}

function Rename({ thread, close, done }: { thread: wire.Thread; close: () => void; done: () => void }) {
  const [title, setTitle] = useState(thread.title);
  const renamed = () => {
    done();
    close();
  };
  return (
    <Dialog title="Rename the thread" close={close}>
      <Form submit="Rename" send={() => client.threads.update(thread.id, { title: title.trim() })} done={renamed} cancel={close}>
        <Field label="Title" required value={title} onValue={setTitle} hint="Titles are not sealed: the server can read them" />
      </Form>
    </Dialog>
  );
}

function Delete({ thread, title, close }: { thread: wire.Thread; title: string; close: () => void }) {
  const { route } = useLocation();
  const done = () => {
    toast("Deleted the thread");
    route("/ui/threads");
  };
  return (
    <Confirm title="Delete the thread" name={title} submit="Delete the thread" send={() => client.threads.delete(thread.id)} done={done} close={close}>
      <p>Nobody can read its messages any more, those who take part included. This cannot be undone here.</p>
    </Confirm>
  );
}
