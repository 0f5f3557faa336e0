// The messages of a thread, live, and the form that posts one.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { client, user } from "../../session.js";
import { Area, Check, Form } from "../../ui/form.js";
import { Badge } from "../../ui/parts.js";
import { Loading, Problem } from "../../ui/state.js";
import { bodyOf, bodyProblem } from "./body.js";
import { useLive, type Connection, type Live } from "./live.js";
import { MessageItem } from "./message.js";
import type { Names } from "./names.js";
import type { Held } from "./window.js";

interface ConversationProps {
  thread: wire.Thread;
  own: boolean;
  names: Names;
  changed: () => void;
}

export function Conversation({ thread, own, names, changed }: ConversationProps) {
  const [deleted, setDeleted] = useState(false);
  const [replyTo, setReplyTo] = useState<wire.Message>();
  const [sent, setSent] = useState(0);
  const live = useLive(thread.id, deleted, changed);
  const writes = own || thread.part === "write";
  const posted = (m: wire.Message) => {
    setReplyTo(undefined);
    setSent((n) => n + 1);
    if (live.held?.end === false) void live.newest();
    else live.take(m);
  };
  return (
    <section class="card conversation" aria-label="Messages">
      <div class="head">
        <h2>
          Messages <State connection={live.connection} />
        </h2>
        <Check label="Show deleted ones" checked={deleted} onChecked={setDeleted} />
      </div>
      <Problem error={live.error} retry={live.again} />
      {live.held === undefined && !live.error && <Loading what="messages" />}
      {live.held && <Messages live={live} held={live.held} sent={sent} deleted={deleted} thread={thread} own={own} writes={writes} names={names} reply={setReplyTo} />}
      {writes ? (
        <Post thread={thread} replyTo={replyTo} names={names} unreply={() => setReplyTo(undefined)} posted={posted} />
      ) : (
        <p class="hint">You may read this thread and not write in it.</p>
      )}
    </section>
  );
}

const states = {
  connecting: ["plain", "connecting"],
  live: ["good", "live"],
  broken: ["warn", "connection lost, trying again"],
  ended: ["bad", "not live"],
} as const;

function State({ connection }: { connection: Connection }) {
  const [kind, text] = states[connection];
  return (
    <span role="status">
      <Badge kind={kind}>{text}</Badge>
    </span>
  );
}

interface MessagesProps {
  live: Live;
  held: Held;
  /** How many messages were posted here: at each the end is shown. */
  sent: number;
  deleted: boolean;
  thread: wire.Thread;
  own: boolean;
  writes: boolean;
  names: Names;
  reply: (to: wire.Message) => void;
}

function Messages({ live, held, sent, deleted, thread, own, writes, names, reply }: MessagesProps) {
  const box = useRef<HTMLDivElement>(null);
  const [busy, setBusy] = useState(false);
  const shown = held.messages.filter((m) => deleted || !m.deleted);
  const byId = new Map(held.messages.map((m) => [m.id, m]));
  const read = async (more: () => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    await more();
    setBusy(false);
  };
  const scroll = useScroll(box, held, live.follow);
  const toEnd = async () => {
    await live.newest();
    scroll.toEnd();
  };
  useLayoutEffect(scroll.toEnd, [sent]);
  const scrolled = (el: HTMLDivElement) => {
    scroll.note();
    if (el.scrollTop === 0 && !held.start) void read(live.older);
    else if (!held.end && el.scrollHeight - el.scrollTop - el.clientHeight < 2) void read(live.newer);
  };
  return (
    <div class="messages" ref={box} tabIndex={0} role="region" aria-label="Conversation" onScroll={(e) => scrolled(e.currentTarget)}>
      {!held.start && (
        <button type="button" class="small" disabled={busy} onClick={() => void read(live.older)}>
          Show older messages
        </button>
      )}
      {shown.length === 0 && held.start && held.end && <p class="quiet">{own ? "No messages yet. The first one that you post is encrypted under the thread's DEK." : "No messages yet."}</p>}
      <ol>
        {shown.map((m) => (
          <MessageItem
            key={m.id}
            message={m}
            answered={m.reply_to === undefined ? undefined : byId.get(m.reply_to)}
            thread={thread}
            names={names}
            mine={m.author === user.value?.id && !m.end_user}
            own={own}
            writes={writes}
            take={live.take}
            reply={() => reply(m)}
          />
        ))}
      </ol>
      {!held.end && (
        <div class="actions newer">
          <button type="button" class="small" disabled={busy} onClick={() => void read(live.newer)}>
            Show newer messages
          </button>
          <button type="button" class="small" onClick={() => void toEnd()}>
            Go to the newest{held.missed > 0 ? ` (${held.missed} new)` : ""}
          </button>
        </div>
      )}
    </div>
  );
}

const near = 60; // px from the end: who reads there follows

interface Scroll {
  /** Is to be told of each scrolling. */
  note: () => void;
  toEnd: () => void;
}

/** Stays at the end while new messages come, and else keeps what is read where it is, whatever comes or goes above it. */
function useScroll(box: { current: HTMLDivElement | null }, held: Held, follow: (following: boolean) => void): Scroll {
  const atEnd = useRef(true);
  const anchor = useRef<{ id: string; top: number }>(undefined);
  const note = () => {
    const el = box.current;
    if (!el) return;
    atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < near && held.end;
    follow(atEnd.current);
    const top = el.getBoundingClientRect().top;
    const items = el.querySelectorAll<HTMLElement>("li.message");
    const first = [...items].find((li) => li.getBoundingClientRect().bottom > top);
    anchor.current = first && { id: first.id, top: first.getBoundingClientRect().top };
  };
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    const kept = anchor.current && document.getElementById(anchor.current.id);
    if (atEnd.current && held.end) el.scrollTop = el.scrollHeight;
    else if (kept) el.scrollTop += kept.getBoundingClientRect().top - anchor.current!.top;
    note();
  }, [held]);
  const toEnd = () => {
    atEnd.current = true;
    follow(true);
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  return { note, toEnd };
}

interface PostProps {
  thread: wire.Thread;
  replyTo: wire.Message | undefined;
  names: Names;
  unreply: () => void;
  posted: (message: wire.Message) => void;
}

function Post({ thread, replyTo, names, unreply, posted }: PostProps) {
  const [text, setText] = useState("");
  const [json, setJson] = useState(false);
  const send = () => client.messages.post(thread.id, { body: bodyOf(text, json), ...(replyTo ? { reply_to: replyTo.id } : {}) });
  const done = (m: wire.Message) => {
    setText("");
    posted(m);
  };
  const problem = bodyProblem(text, json);
  return (
    <Form submit="Post" send={send} done={done} disabled={problem !== undefined}>
      {replyTo && (
        <p class="hint">
          In reply to {names(replyTo.author)}{" "}
          <button type="button" class="plain" onClick={unreply}>
            Not a reply
          </button>
        </p>
      )}
      <Area label="Message" rows={3} mono={json} value={text} onValue={setText} hint={json && text !== "" ? problem : undefined} />
      <Check label="It is JSON" checked={json} onChecked={setJson} />
    </Form>
  );
}
