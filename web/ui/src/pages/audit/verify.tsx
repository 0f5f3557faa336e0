// Whether the chain is whole: as the server finds it, and as this browser does,
// which reads the whole trail and computes every hash by itself.

import { useEffect, useRef, useState } from "preact/hooks";
import { checkTrail, KeyfoldError, type ErrorInfo, type TrailReport, type wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client, user } from "../../session.js";
import { Time } from "../../ui/parts.js";
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

type Seen = { server: Checked } | { browser: TrailReport } | { reading: number };

export function Verdict() {
  const [seen, setSeen] = useState<Seen>();
  const [error, setError] = useState<ErrorInfo | null>(null);
  const [busy, setBusy] = useState(false);
  const running = useRef<AbortController>(undefined);
  useEffect(() => () => running.current?.abort(), []);
  const run = async (check: (signal: AbortSignal, tell: (seen: Seen) => void) => Promise<ErrorInfo | null>) => {
    const controller = new AbortController();
    running.current = controller;
    setBusy(true);
    setError(null);
    setSeen(undefined);
    const failed = await check(controller.signal, (so) => !controller.signal.aborted && setSeen(so));
    if (failed && !controller.signal.aborted) setError(failed);
    if (failed) setSeen(undefined);
    setBusy(false);
  };
  return (
    <section class="card" aria-label="The chain">
      <h2>The chain</h2>
      <p class="quiet">Each event holds the hash of the one before, and the server signs where the chain ends. A check shows whether events were changed, taken out or put in. In the browser it does not trust the server, and reads the whole trail.</p>
      <div class="actions">
        <button type="button" class="primary" disabled={busy} aria-busy={busy} onClick={() => void run(askServer)}>
          Verify the chain
        </button>
        <button type="button" disabled={busy} onClick={() => void run(checkHere)}>
          Verify in this browser
        </button>
        {busy && (
          <button type="button" onClick={() => running.current?.abort()}>
            Cancel
          </button>
        )}
      </div>
      <Problem error={error} />
      <div role="status">{seen && ("server" in seen ? <OfServer checked={seen.server} /> : "browser" in seen ? <OfBrowser report={seen.browser} /> : <p>Checking: {Math.ceil(seen.reading / 1024).toLocaleString()} KB read</p>)}</div>
    </section>
  );
}

/** Has the server check its trail, part by part. */
async function askServer(signal: AbortSignal, tell: (seen: Seen) => void): Promise<ErrorInfo | null> {
  let so: Checked | undefined;
  while (!signal.aborted && !so?.whole) {
    const from: string = so?.last.next_from ?? beginning;
    const got = await settle(() => client.audit.verify({ from, limit: perCall }));
    if (got.error) return got.error;
    so = and(so, got.data);
    tell({ server: so });
  }
  return null;
}

/** Reads the whole trail, and checks it here. */
async function checkHere(signal: AbortSignal, tell: (seen: Seen) => void): Promise<ErrorInfo | null> {
  const got = await settle(() => client.audit.export({}, signal));
  if (got.error) return got.error;
  try {
    const report = await checkTrail(got.data, { progress: (reading) => tell({ reading }) });
    if (!report.whole || report.org_id !== user.value?.org_id) return new KeyfoldError("The server answered with another trail than the whole one of your org, so there is no verdict").info();
    tell({ browser: report });
    return null;
  } catch (err) {
    return err instanceof KeyfoldError ? err.info() : new KeyfoldError("The reading of the trail broke off; try again").info();
  }
}

/** The verdict that something is wrong, and what to do. */
function Broken({ what, event, count }: { what: string; event: string | null | undefined; count: string }) {
  return (
    <div class="notice bad">
      <p>
        <strong>The chain is broken.</strong> {what.charAt(0).toUpperCase() + what.slice(1)}
      </p>
      {event && (
        <p>
          First at the event <code>{event}</code>.
        </p>
      )}
      <p>{count} Export the trail now and keep it; somebody, or a disk, has changed what the server stored.</p>
    </div>
  );
}

const signedCount = (events: number, signed: number) => `${events.toLocaleString()} events checked, ${signed.toLocaleString()} of them under a signed checkpoint.`;

function OfBrowser({ report: { events, signed, checkpoints, signatures, problems } }: { report: TrailReport }) {
  const [first] = problems;
  const count = signedCount(events, signed);
  if (first) return <Broken what={`${first.checkpoint === undefined ? "" : `Checkpoint ${first.checkpoint}: `}${first.what}.${problems.length > 1 ? ` ${problems.length.toLocaleString()} things are wrong.` : ""}`} event={first.event_id} count={count} />;
  return (
    <div class={`notice ${signatures ? "good" : ""}`}>
      <p>
        <strong>This browser found the chain whole.</strong> {count}
      </p>
      <p>
        {signatures
          ? `${checkpoints.toLocaleString()} signatures are right, by the keys that the server names. With a checkpoint that you saved, keyfold audit verify also shows whether the end was cut off.`
          : "This browser does not know the signatures (Ed25519), and did not check them; keyfold audit verify does, on an export."}
      </p>
    </div>
  );
}

function OfServer({ checked: { last, events, signed, whole } }: { checked: Checked }) {
  const count = signedCount(events, signed);
  if (!last.chain_valid) return <Broken what={last.reason ?? ""} event={last.broken_at_event_id} count={count} />;
  if (!whole) return <p>Checking: {count}</p>;
  return (
    <div class="notice good">
      <p>
        <strong>The chain is whole.</strong> {count}
      </p>
      {last.checkpoint && (
        <p>
          Checkpoint {last.checkpoint.number.toLocaleString()} was signed <Time at={last.checkpoint.created_at} />.
        </p>
      )}
    </div>
  );
}
