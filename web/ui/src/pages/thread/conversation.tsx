// The messages of a thread, live, and the form that posts one.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { client, user } from "../../session.js";
import { Area, Check, Form } from "../../ui/form.js";
import { Badge } from "../../ui/parts.js";
import { Loading, Problem } from "../../ui/state.js";
import { bodyOf, bodyProblem } from "./body.js";
import { useLive, type Live } from "./live.js";
import { MessageItem } from "./message.js";
import type { Names } from "./names.js";

interface ConversationProps {
  thread: wire.Thread;
  own: boolean;
  names: Names;
  changed: () => void;
}

export function Conversation({ thread, own, names, changed }: ConversationProps) {
  const [deleted, setDeleted] = useState(false);
  const [replyTo, setReplyTo] = useState<wire.Message>();
  const live = useLive(thread.id, deleted, changed);
  const writes = own || thread.part === "write";
  return (
    <section class="card conversation" aria-label="Messages">
      <div class="head">
        <h2>
          Messages <Badge kind={live.live ? "good" : "plain"}>{live.live ? "live" : "not live"}</Badge>
        </h2>
        <Check label="Show deleted ones" checked={deleted} onChecked={setDeleted} />
      </div>
      <Problem error={live.error} retry={live.again} />
      {live.messages === undefined && !live.error && <Loading what="messages" />}
      {live.messages && <Messages live={live} messages={live.messages} thread={thread} own={own} writes={writes} names={names} reply={setReplyTo} />}
      {writes ? (
        <Post
          thread={thread}
          replyTo={replyTo}
          names={names}
          unreply={() => setReplyTo(undefined)}
          posted={(m) => {
            live.take(m);
            setReplyTo(undefined);
          }}
        />
      ) : (
        <p class="hint">You may read this thread and not write in it.</p>
      )}
    </section>
  );
}

interface MessagesProps {
  live: Live;
  messages: wire.Message[];
  thread: wire.Thread;
  own: boolean;
  writes: boolean;
  names: Names;
  reply: (to: wire.Message) => void;
}

function Messages({ live, messages, thread, own, writes, names, reply }: MessagesProps) {
  const box = useRef<HTMLDivElement>(null);
  const [busy, setBusy] = useState(false);
  useScroll(box, messages[0]?.id, messages.at(-1)?.id);
  const older = async () => {
    if (busy || !live.older) return;
    setBusy(true);
    await live.older();
    setBusy(false);
  };
  return (
    <div class="messages" ref={box} tabIndex={0} role="region" aria-label="Conversation" onScroll={(e) => e.currentTarget.scrollTop === 0 && void older()}>
      {live.older && (
        <button type="button" class="small" disabled={busy} onClick={() => void older()}>
          Show older messages
        </button>
      )}
      {messages.length === 0 && <p class="quiet">No messages yet.</p>}
      <ol>
        {messages.map((m) => (
          <MessageItem
            key={m.id}
            message={m}
            answered={m.reply_to === undefined ? undefined : messages.find((o) => o.id === m.reply_to)}
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
    </div>
  );
}

/** Stays at the end while new ones come, and where it was when older ones are put before. */
function useScroll(box: { current: HTMLDivElement | null }, first: string | undefined, last: string | undefined): void {
  const atEnd = useRef(true);
  const height = useRef(0);
  const had = useRef(first);
  useEffect(() => {
    const watch = () => {
      if (box.current) atEnd.current = box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < 60;
    };
    box.current?.addEventListener("scroll", watch, { passive: true });
    return () => box.current?.removeEventListener("scroll", watch);
  }, []);
  useLayoutEffect(() => {
    const el = box.current;
    if (!el) return;
    if (had.current !== undefined && first !== undefined && first < had.current && !atEnd.current) el.scrollTop += el.scrollHeight - height.current;
    else if (atEnd.current) el.scrollTop = el.scrollHeight;
    had.current = first;
    height.current = el.scrollHeight;
  }, [first, last]);
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
