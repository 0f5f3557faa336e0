// Whether the chain is whole, as the server finds it.

import { useEffect, useRef, useState } from "preact/hooks";
import type { ErrorInfo, wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client } from "../../session.js";
import { Badge, Time } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";

const beginning = "1970-01-01T00:00:00Z";
const perCall = 10_000;

/** What is known after some calls; of the last one is the rest. */
interface Checked {
  last: wire.AuditVerification;
  events: number;
  signed: number;
  whole: boolean;
}

/** What was known before, and one more answer. A break ends the check. */
function and(before: Checked | undefined, last: wire.AuditVerification): Checked {
  return {
    last,
    events: (before?.events ?? 0) + last.events_checked,
    signed: (before?.signed ?? 0) + last.events_signed,
    whole: !last.chain_valid || last.next_from === undefined,
  };
}

export function Verdict() {
  const [checked, setChecked] = useState<Checked>();
  const [error, setError] = useState<ErrorInfo | null>(null);
  const [busy, setBusy] = useState(false);
  const here = useRef(true);
  useEffect(() => () => void (here.current = false), []);
  const verify = async () => {
    setBusy(true);
    setError(null);
    setChecked(undefined);
    let so: Checked | undefined;
    while (here.current && !so?.whole) {
      const from: string = so?.last.next_from ?? beginning;
      const got = await settle(() => client.audit.verify({ from, limit: perCall }));
      if (got.error) {
        setError(got.error);
        break;
      }
      so = and(so, got.data);
      setChecked(so);
    }
    setBusy(false);
  };
  return (
    <section class="card" aria-label="The chain">
      <h2>The chain</h2>
      <p class="quiet">Each event holds the hash of the one before, and the server signs where the chain ends. Checking it shows whether events were changed, taken out or put in.</p>
      <div class="actions">
        <button type="button" class="primary" disabled={busy} aria-busy={busy} onClick={() => void verify()}>
          Verify the chain
        </button>
      </div>
      <Problem error={error} />
      <div role="status">{checked && <Told checked={checked} />}</div>
    </section>
  );
}

function Told({ checked: { last, events, signed, whole } }: { checked: Checked }) {
  const count = `${events.toLocaleString()} events checked, ${signed.toLocaleString()} of them under a signed checkpoint.`;
  if (!last.chain_valid) {
    return (
      <div class="notice bad">
        <p>
          <strong>The chain is broken.</strong> {last.reason}
        </p>
        {last.broken_at_event_id && (
          <p>
            First at the event <code>{last.broken_at_event_id}</code>.
          </p>
        )}
        <p>{count} Export the trail now and keep it; somebody, or a disk, has changed what the server stored.</p>
      </div>
    );
  }
  if (!whole) return <p>Checking: {count}</p>;
  return (
    <div class="notice good">
      <p>
        <strong>The chain is whole.</strong> {count}
      </p>
      {last.checkpoint && (
        <p>
          <Badge kind="good">checkpoint {last.checkpoint.number}</Badge> signed <Time at={last.checkpoint.created_at} />
        </p>
      )}
    </div>
  );
}
