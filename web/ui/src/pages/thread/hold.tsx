// The legal hold of a thread, for who runs the org: while it lasts nothing of the
// thread is purged.

import { useState } from "preact/hooks";
import type { Result, wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Field, Form } from "../../ui/form.js";
import { Badge, Head, Time } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import type { Names } from "./names.js";
import { KeptFor } from "./retention.js";

const maxReason = 500;

interface Held {
  hold: wire.Hold | undefined;
}

/** The hold, or that there is none, which the server tells as an error. */
async function readHold(threadId: string): Promise<Result<Held>> {
  const got = await client.threads.getHold(threadId);
  if (got.error?.type === "not_found") return { data: { hold: undefined }, error: null, meta: got.meta };
  return got.error ? got : { ...got, data: { hold: got.data } };
}

export function LegalHold({ thread, names }: { thread: wire.Thread; names: Names }) {
  const held = useLoad(() => readHold(thread.id), [thread.id]);
  const [open, setOpen] = useState<"set" | "lift">();
  const close = () => setOpen(undefined);
  const changed = (note: string) => {
    toast(note);
    close();
    held.reload();
  };
  return (
    <section class="card" aria-label="Keeping">
      <Head level={2} title={<>Keeping {held.data?.hold && <Badge kind="warn">legal hold</Badge>}</>} />
      <KeptFor />
      <Show of={held} what="the legal hold">
        {({ hold }) => (
          <>
            {hold ? <Facts hold={hold} names={names} /> : <p class="quiet">Under no legal hold: what is deleted or too old is purged in time.</p>}
            <div class="actions">
              <button type="button" onClick={() => setOpen("set")}>
                {hold ? "Change the reason" : "Put under legal hold"}
              </button>
              {hold && (
                <button type="button" class="danger" onClick={() => setOpen("lift")}>
                  Lift the hold
                </button>
              )}
            </div>
            {open === "set" && <SetHold thread={thread} hold={hold} close={close} done={() => changed(hold ? "Changed the reason" : "Put under legal hold")} />}
          </>
        )}
      </Show>
      {open === "lift" && (
        <Confirm title="Lift the legal hold" submit="Lift the hold" send={() => client.threads.release(thread.id)} done={() => changed("Lifted the hold")} close={close}>
          <p>What is due is purged in the next run, and cannot be had again. That the hold was lifted, and by whom, is in the audit trail.</p>
        </Confirm>
      )}
    </section>
  );
}

function Facts({ hold, names }: { hold: wire.Hold; names: Names }) {
  return (
    <dl class="facts">
      <dt>Held since</dt>
      <dd>
        <Time at={hold.since / 1e6} exact />
      </dd>
      <dt>Set by</dt>
      <dd>{names(hold.by)}</dd>
      <dt>Reason</dt>
      <dd>{hold.reason || <span class="quiet">none given</span>}</dd>
    </dl>
  );
}

function SetHold({ thread, hold, close, done }: { thread: wire.Thread; hold: wire.Hold | undefined; close: () => void; done: () => void }) {
  const [reason, setReason] = useState(hold?.reason ?? "");
  return (
    <Dialog title={hold ? "Change the reason" : "Put the thread under legal hold"} close={close}>
      <Form submit={hold ? "Save the reason" : "Put under legal hold"} send={() => client.threads.hold(thread.id, { reason: reason.trim() })} done={done} cancel={close}>
        <p>Nothing of the thread is purged while the hold lasts, also when messages or the thread are deleted. It goes on as before for those who take part, who are not told.</p>
        <Field label="Reason" maxLength={maxReason} value={reason} onValue={setReason} hint="Such as the number of a case. Owners and admins see it." />
      </Form>
    </Dialog>
  );
}
