// What a thread is under: its keys, as far as the caller may see them.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { operator } from "../../operator.js";
import { Confirm } from "../../ui/dialog.js";
import { Id, Time } from "../../ui/parts.js";
import { toast } from "../../ui/toast.js";
import type { Names } from "./names.js";

export function Facts({ thread, names }: { thread: wire.Thread; names: Names }) {
  return (
    <section class="card" aria-label="About the thread">
      <h2>About</h2>
      <dl class="facts">
        <dt>ID</dt>
        <dd>
          <Id value={thread.id} what="the thread's ID" />
        </dd>
        <dt>Owner</dt>
        <dd>{names(thread.author)}</dd>
        <dt>Created</dt>
        <dd>
          <Time at={thread.created_ts / 1e6} exact />
        </dd>
        <dt>Changed</dt>
        <dd>
          <Time at={thread.updated_ts / 1e6} />
        </dd>
        {thread.cmek_fingerprint && (
          <>
            <dt>Your key</dt>
            <dd>
              <Id value={thread.cmek_fingerprint} what="the fingerprint" />
            </dd>
          </>
        )}
        <dt>DEK</dt>
        <dd>{thread.kms ? <Id value={thread.kms.key_id} what="the key ID" /> : "one of its own; its ID is shown to backend and admin keys"}</dd>
        {thread.kms && (
          <>
            <dt>Wrapped under</dt>
            <dd>
              KEK version {thread.kms.kek_version}
            </dd>
          </>
        )}
      </dl>
      <RotateDek thread={thread} />
    </section>
  );
}

/** Only an operator rotates DEKs. */
function RotateDek({ thread }: { thread: wire.Thread }) {
  const [asking, setAsking] = useState(false);
  const admin = operator.value?.admin;
  if (!admin) {
    return (
      <p class="hint">
        An operator can rotate the DEK: enter the admin key on the page <a href="/ui/keys">Keys</a>, and come back.
      </p>
    );
  }
  const done = (answer: wire.ThreadDekRotated) => {
    toast(`The new DEK is ${answer.new_key}; see Jobs for how far it is`);
    setAsking(false);
  };
  return (
    <div class="actions">
      <button type="button" onClick={() => setAsking(true)}>
        Rotate its DEK
      </button>
      {asking && (
        <Confirm title="Rotate the DEK of the thread" submit="Rotate the DEK" send={() => admin.rotateThreadDek({ thread_id: thread.id })} done={done} close={() => setAsking(false)}>
          <p>New messages are under a new DEK at once. A job re-encrypts those there are, and destroys the old DEK then. Everything stays readable meanwhile.</p>
        </Confirm>
      )}
    </div>
  );
}
