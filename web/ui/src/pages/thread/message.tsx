// One message, and what can be done with it.

import { useState } from "preact/hooks";
import type { ErrorInfo, wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { usePaged } from "../../paged.js";
import { client, user } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Area, Check, Field, Form } from "../../ui/form.js";
import { Badge, Time } from "../../ui/parts.js";
import { Loading, Problem } from "../../ui/state.js";
import { bodyOf, bodyProblem, textOf } from "./body.js";
import type { Names } from "./names.js";

interface MessageProps {
  message: wire.Message;
  /** That it is a reply to, where that is shown. */
  answered: wire.Message | undefined;
  thread: wire.Thread;
  names: Names;
  mine: boolean;
  /** The thread is the caller's. */
  own: boolean;
  writes: boolean;
  take: (message: wire.Message) => void;
  reply: () => void;
}

type Open = "edit" | "delete" | "versions" | "react";

export function MessageItem(props: MessageProps) {
  const { message: m, answered, names, mine } = props;
  const [open, setOpen] = useState<Open>();
  return (
    <li id={`message-${m.id}`} class={mine ? "message mine" : "message"}>
      <p class="by">
        <strong>{names(m.author)}</strong> {m.end_user && <Badge>end user</Badge>} {m.role !== "user" && <Badge>{m.role}</Badge>}{" "}
        <span class="quiet">
          <Time at={m.ts / 1e6} />
        </span>
      </p>
      {m.reply_to !== undefined && <p class="answered">In reply to {answered ? `${names(answered.author)}: ${answered.deleted ? "deleted" : textOf(answered.body).slice(0, 80)}` : "an older message"}</p>}
      {m.deleted ? <p class="quiet">Deleted</p> : <Body body={m.body} />}
      <Reactions {...props} />
      <Acts {...props} open={setOpen} />
      {open && <Opened {...props} open={open} close={() => setOpen(undefined)} />}
    </li>
  );
}

const longBody = 10_000; // characters; a body may have some million

function Body({ body }: { body: unknown }) {
  const [all, setAll] = useState(false);
  const text = textOf(body);
  const shown = all ? text : text.slice(0, longBody);
  return (
    <>
      {typeof body === "string" ? <p class="body">{shown}</p> : <pre class="body">{shown}</pre>}
      {shown.length < text.length && (
        <button type="button" class="small" onClick={() => setAll(true)}>
          Show all {text.length.toLocaleString()} characters
        </button>
      )}
    </>
  );
}

function Acts({ message: m, names, mine, own, writes, reply, open }: MessageProps & { open: (what: Open) => void }) {
  const of = `the message of ${names(m.author)}`;
  const version = m.version ?? 1;
  return (
    <div class="acts">
      {!m.deleted && writes && (
        <>
          <button type="button" class="plain" aria-label={`Reply to ${of}`} onClick={reply}>
            Reply
          </button>
          <button type="button" class="plain" aria-label={`React to ${of}`} onClick={() => open("react")}>
            React
          </button>
        </>
      )}
      {!m.deleted && mine && writes && (
        <button type="button" class="plain" aria-label={`Edit ${of}`} onClick={() => open("edit")}>
          Edit
        </button>
      )}
      {!m.deleted && ((mine && writes) || own) && (
        <button type="button" class="plain" aria-label={`Delete ${of}`} onClick={() => open("delete")}>
          Delete
        </button>
      )}
      {version > 1 && (
        <button type="button" class="plain" aria-label={`Versions of ${of}`} onClick={() => open("versions")}>
          {version} versions
        </button>
      )}
    </div>
  );
}

/** Reactions by their text; the caller's own can be taken back. */
function Reactions({ message: m, thread, names, writes, take }: MessageProps) {
  const [error, setError] = useState<ErrorInfo | null>(null);
  const all = Object.entries(m.reactions ?? {});
  const me = user.value?.id ?? "";
  const react = async (text: string) => {
    const got = await settle(() => client.messages.react(thread.id, m.id, text));
    setError(got.error);
    if (got.data) take(got.data);
  };
  const takeBack = async () => {
    const got = await settle(() => client.messages.unreact(thread.id, m.id, me));
    setError(got.error);
    if (!got.error) take({ ...m, reactions: Object.fromEntries(all.filter(([id]) => id !== me)) });
  };
  if (all.length === 0) return <Problem error={error} />;
  return (
    <>
      <div class="reactions">
        {[...new Set(all.map(([, text]) => text))].map((text) => {
          const by = all.filter(([, t]) => t === text).map(([id]) => id);
          const pressed = by.includes(me);
          return (
            <button key={text} type="button" class="small" aria-pressed={pressed} disabled={!writes} title={by.map(names).join(", ")} onClick={() => void (pressed ? takeBack() : react(text))}>
              {text} {by.length}
            </button>
          );
        })}
      </div>
      <Problem error={error} />
    </>
  );
}

function Opened({ message: m, thread, names, take, open, close }: MessageProps & { open: Open; close: () => void }) {
  const done = (message: wire.Message) => {
    take(message);
    close();
  };
  switch (open) {
    case "edit":
      return <Edit message={m} thread={thread} done={done} close={close} />;
    case "react":
      return <React message={m} thread={thread} done={done} close={close} />;
    case "versions":
      return <Versions message={m} thread={thread} close={close} />;
    case "delete":
      return (
        <Confirm
          title="Delete the message"
          submit="Delete the message"
          send={() => client.messages.delete(thread.id, m.id)}
          done={() => {
            const { body: _, ...rest } = m;
            done({ ...rest, deleted: true });
          }}
          close={close}
        >
          <p>The message of {names(m.author)} is no longer shown. Its versions stay readable for who takes part, until they are purged.</p>
        </Confirm>
      );
  }
}

interface DialogProps {
  message: wire.Message;
  thread: wire.Thread;
  close: () => void;
}

function Edit({ message: m, thread, done, close }: DialogProps & { done: (m: wire.Message) => void }) {
  const [text, setText] = useState(textOf(m.body));
  const [json, setJson] = useState(typeof m.body !== "string");
  const problem = bodyProblem(text, json);
  return (
    <Dialog title="Edit the message" close={close}>
      <Form submit="Save" send={() => client.messages.edit(thread.id, m.id, { body: bodyOf(text, json) })} done={done} cancel={close} disabled={problem !== undefined}>
        <Area label="Message" rows={6} mono={json} value={text} onValue={setText} hint={problem ?? "The version of now is kept, and can be read by who takes part"} />
        <Check label="It is JSON" checked={json} onChecked={setJson} />
      </Form>
    </Dialog>
  );
}

const usual = ["👍", "❤️", "🎉", "👀", "✅"];

function React({ message: m, thread, done, close }: DialogProps & { done: (m: wire.Message) => void }) {
  const [text, setText] = useState(m.reactions?.[user.value?.id ?? ""] ?? "");
  return (
    <Dialog title="React to the message" close={close}>
      <Form submit="React" send={() => client.messages.react(thread.id, m.id, text.trim())} done={done} cancel={close} disabled={text.trim() === ""}>
        <div class="actions" role="group" aria-label="Usual reactions">
          {usual.map((u) => (
            <button key={u} type="button" aria-pressed={text === u} onClick={() => setText(u)}>
              {u}
            </button>
          ))}
        </div>
        <Field label="Reaction" required maxLength={64} value={text} onValue={setText} hint="You have one per message; another one takes its place. Reactions are not sealed." />
      </Form>
    </Dialog>
  );
}

function Versions({ message: m, thread, close }: DialogProps) {
  const versions = usePaged(
    async (cursor) => {
      const got = await client.messages.versions(thread.id, m.id, cursor === undefined ? {} : { cursor });
      return got.error ? got : { ...got, data: { items: got.data.versions, next: got.data.next_cursor } };
    },
    [m.id],
  );
  return (
    <Dialog title="Versions of the message" close={close}>
      <Problem error={versions.error} retry={versions.reload} />
      {versions.items === undefined && versions.loading && <Loading what="versions" />}
      <ol class="versions">
        {versions.items?.map((v) => (
          <li key={v.version ?? 1}>
            <p class="by">
              <strong>Version {v.version ?? 1}</strong>{" "}
              <span class="quiet">
                <Time at={(v.updated_ts ?? v.ts) / 1e6} exact />
              </span>
            </p>
            {v.deleted ? <p class="quiet">Deleted</p> : <Body body={v.body} />}
          </li>
        ))}
      </ol>
      {versions.more && (
        <button type="button" onClick={versions.more} disabled={versions.loading}>
          Show more
        </button>
      )}
    </Dialog>
  );
}
