// How long the org keeps threads and messages, for its owners and admins.

import { useEffect, useState } from "preact/hooks";
import type { Result, wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Dialog } from "../../ui/dialog.js";
import { Check, Field, Form } from "../../ui/form.js";
import { Loading, Problem, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

const maxDays = 36_500;
const typingPause = 300; // ms

/** How long the org keeps things, in a sentence. */
export function KeptFor() {
  const retention = useLoad(() => client.threads.getRetention(), []);
  return <Show of={retention} what="the retention">{(r) => <p>{sentence(r)}</p>}</Show>;
}

function sentence({ deleted_days: deleted, message_days: messages }: wire.Retention): string {
  const ofDeleted = deleted ? `What is deleted is purged after ${days(deleted)}.` : "What is deleted is kept for ever.";
  return `${ofDeleted} ${messages ? `Messages are purged ${days(messages)} after their time.` : "Messages are kept for ever."}`;
}

function days(n: number): string {
  return n === 1 ? "1 day" : `${n.toLocaleString()} days`;
}

/** Shows and changes how long threads are kept. */
export function Retention({ close }: { close: () => void }) {
  const retention = useLoad(() => client.threads.getRetention(), []);
  return (
    <Dialog title="How long threads are kept" close={close}>
      <Show of={retention} what="the retention">{(r) => <Edit of={r} close={close} />}</Show>
    </Dialog>
  );
}

function Edit({ of, close }: { of: wire.Retention; close: () => void }) {
  const [deleted, setDeleted] = useState(textOf(of.deleted_days));
  const [messages, setMessages] = useState(textOf(of.message_days));
  const [sure, setSure] = useState(false);
  const wanted = { ...(deleted === "" ? {} : { deleted_days: Number(deleted) }), ...(messages === "" ? {} : { message_days: Number(messages) }) };
  const valid = [deleted, messages].every((d) => d === "" || (Number.isInteger(Number(d)) && Number(d) >= 1 && Number(d) <= maxDays));
  const shorter = isLess(deleted, of.deleted_days) || isLess(messages, of.message_days);
  const done = () => {
    toast("Saved how long threads are kept");
    close();
  };
  return (
    <Form submit="Save" send={(): Promise<Result<wire.Retention>> => client.threads.setRetention(wanted)} done={done} cancel={close} disabled={!valid || (shorter && !sure)}>
      <Field label="Purge what was deleted after (days)" type="number" min={1} max={maxDays} value={deleted} onValue={setDeleted} hint="Threads and messages, from their deletion on. Empty: never." />
      <Field label="Purge messages after (days)" type="number" min={1} max={maxDays} value={messages} onValue={setMessages} hint="From the time of the message on, deleted or not. Empty: never." />
      {valid && <Preview wanted={wanted} />}
      {shorter && <Check label="I know that what is purged cannot be had again" checked={sure} onChecked={setSure} />}
    </Form>
  );
}

function textOf(n: number | undefined): string {
  return n ? String(n) : "";
}

/** Whether things are kept for less long than before. */
function isLess(wanted: string, before: number | undefined): boolean {
  return wanted !== "" && (!before || Number(wanted) < before);
}

/** What a run would purge now. */
function Preview({ wanted }: { wanted: wire.Retention }) {
  const key = JSON.stringify(wanted);
  const [asked, setAsked] = useState(key);
  useEffect(() => {
    const timer = setTimeout(() => setAsked(key), typingPause);
    return () => clearTimeout(timer);
  }, [key]);
  const { deleted_days = 0, message_days = 0 } = JSON.parse(asked) as wire.Retention;
  const preview = useLoad(() => client.threads.previewRetention({ deleted_days, message_days }), [asked]);
  if (!preview.data) return preview.error ? <Problem error={preview.error} retry={preview.reload} /> : <Loading what="what would be purged" />;
  const { threads, messages, held, partial } = preview.data;
  const more = partial ? " or more" : "";
  return (
    <p class={threads + messages > 0 ? "notice" : "hint"} role="status">
      {threads + messages === 0 ? "A run would purge nothing now." : `A run would purge now: ${threads.toLocaleString()}${more} threads, and ${messages.toLocaleString()}${more} messages of others.`}
      {held > 0 && ` A legal hold keeps something of ${held.toLocaleString()} threads.`}
    </p>
  );
}
