// What is known of a thread beside its messages.

import type { wire } from "@keyfold/sdk";
import { Id, Time } from "../../ui/parts.js";
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
      </dl>
    </section>
  );
}
