// Who takes part in a thread beside its owner.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client, user } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Check, Choice, Field, Form } from "../../ui/form.js";
import { Badge } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { readPeople, refOf } from "../vault/access/people.js";
import type { Names } from "./names.js";

export function Participants({ thread, own, names }: { thread: wire.Thread; own: boolean; names: Names }) {
  const list = useLoad(() => client.threads.participants(thread.id), [thread.id]);
  const [open, setOpen] = useState<"add" | wire.Participant>();
  const changed = (note: string) => {
    toast(note);
    setOpen(undefined);
    list.reload();
  };
  return (
    <section class="card" aria-label="Who takes part">
      <h2>Who takes part</h2>
      <Show of={list} what="participants">
        {({ participants }) => (
          <ul class="plain-list">
            <li>
              {names(thread.author)} <Badge>owner</Badge>
            </li>
            {participants.map((p) => (
              <li key={`${p.end_user}:${p.id}`}>
                {names(p.id)} <Badge>{p.part}</Badge> {p.end_user && <Badge>end user</Badge>}{" "}
                {(own || p.id === user.value?.id) && (
                  <button type="button" class="small" aria-label={`Remove ${names(p.id)}`} onClick={() => setOpen(p)}>
                    Remove
                  </button>
                )}
              </li>
            ))}
          </ul>
        )}
      </Show>
      {own && (
        <div class="actions">
          <button type="button" onClick={() => setOpen("add")}>
            Add somebody
          </button>
        </div>
      )}
      {open === "add" && <Add thread={thread} close={() => setOpen(undefined)} done={() => changed("Added")} />}
      {open !== undefined && open !== "add" && (
        <Confirm
          title={`Remove ${names(open.id)}`}
          submit="Remove"
          send={() => client.threads.unshare(thread.id, open.id, open.end_user ? { end_user: true } : {})}
          done={() => changed("Removed")}
          close={() => setOpen(undefined)}
        >
          <p>From now on {names(open.id)} cannot read this thread. What was read before cannot be taken back.</p>
        </Confirm>
      )}
    </section>
  );
}

const other = "other";

function Add({ thread, close, done }: { thread: wire.Thread; close: () => void; done: () => void }) {
  const people = useLoad(readPeople, []);
  const [who, setWho] = useState("");
  const [id, setId] = useState("");
  const [part, setPart] = useState<"read" | "write">("read");
  const [endUser, setEndUser] = useState(false);
  const named = who === other;
  const send = () => client.threads.share(thread.id, named ? id.trim() : who.slice(who.indexOf(":") + 1), { part, ...(named && endUser ? { end_user: true } : {}) });
  const options = (people.data ?? []).filter((p) => p.id !== thread.author).map((p): [string, string] => [refOf(p.kind, p.id), `${p.name} (${p.kind})`]);
  return (
    <Dialog title="Add somebody to the thread" close={close}>
      <Form submit="Add" send={send} done={done} cancel={close} disabled={who === "" || (named && id.trim() === "")}>
        <Choice label="Who" value={who} onValue={setWho} options={[["", "Choose a user or an agent"], ...options, [other, "Somebody else, by ID"]]} />
        {named && <Field label="ID" required value={id} onValue={setId} />}
        {named && <Check label="It is an end user's ID" checked={endUser} onChecked={setEndUser} />}
        <Choice label="May" value={part} onValue={(v) => setPart(v === "write" ? "write" : "read")} options={[["read", "Read"], ["write", "Read and write: post, edit, delete and react"]]} />
        {thread.cmek_fingerprint && <p class="notice">The thread is under a customer's key: whoever you add needs its key file as well.</p>}
      </Form>
    </Dialog>
  );
}
