// The part of a conversation that a page holds: messages one after the other, of
// which no more are kept than can be shown well. What leaves at one end is read
// again when it is asked for.

import type { ThreadEvent, wire } from "@keyfold/sdk";
import { textOf } from "./body.js";

/** At most so many messages, and about so much text, are held. */
export const maxHeld = 300;
const maxText = 24 << 20; // characters

export interface Held {
  /** Oldest first, without gaps. */
  messages: readonly wire.Message[];
  /** The thread's first message is the first of them, or there is none. */
  start: boolean;
  /** The thread's newest message is the last of them: new ones are put behind it. */
  end: boolean;
  /** How many have come since, that are not held; only where end is false. */
  missed: number;
}

export const nothing: Held = { messages: [], start: true, end: true, missed: 0 };

/**
 * The newest page, put behind what is held where they meet. Where they do not it takes
 * its place for who is at the end (following); who reads further up keeps his.
 */
export function withNewest(held: Held | undefined, page: readonly wire.Message[], isFirst: boolean, following: boolean): Held {
  const last = held?.messages.at(-1);
  const meets = held?.end && (page.length === 0 || last === undefined || page[0]!.id <= last.id);
  if (held?.end && !meets && !following) return { ...held, end: false, missed: 0 };
  if (!held || (held.end && !meets)) return { messages: page, start: isFirst, end: true, missed: 0 };
  if (!held.end) return held;
  return trimmed({ ...held, messages: merged(held.messages, page), start: held.start && (held.messages.length > 0 || isFirst) }, following);
}

/** A page of older messages, put before what is held. */
export function withOlder(held: Held, page: readonly wire.Message[], isFirst: boolean): Held {
  return fromEnd({ ...held, messages: merged(page, held.messages), start: isFirst }, page.length);
}

/** A page of newer messages, put behind what is held. isLast: there are no more. */
export function withNewer(held: Held, page: readonly wire.Message[], isLast: boolean): Held {
  const next = { ...held, messages: merged(held.messages, page), end: isLast, missed: isLast ? 0 : Math.max(0, held.missed - page.length) };
  return fromStart(next, page.length);
}

/** After an event of the thread. */
export function withEvent(held: Held, { kind, message_id, message }: ThreadEvent, following: boolean): Held {
  if (kind === "purged" && message_id !== undefined) return { ...held, messages: held.messages.filter((m) => m.id > message_id) };
  if (!message) return held;
  const [first, last] = [held.messages[0], held.messages.at(-1)];
  if (!held.start && (first === undefined || message.id < first.id)) return held; // is read with the older ones
  if (!held.end && (last === undefined || message.id > last.id)) return kind === "created" ? { ...held, missed: held.missed + 1 } : held;
  return trimmed({ ...held, messages: merged(held.messages, [message]) }, following);
}

/** The answer of a call takes the place of what was held of the message. */
export function withAnswer(held: Held, message: wire.Message): Held {
  return withEvent(held, { id: "", kind: "edited", thread: message.thread, message_id: message.id, message }, true);
}

/** At the end of a thread: drops the oldest for who follows; who reads further up keeps his, and is told that there are newer ones. */
function trimmed(held: Held, following: boolean): Held {
  if (following) return fromStart(held, 1);
  const kept = fromEnd(held, 1);
  return kept.end || !held.end ? kept : { ...kept, missed: held.messages.length - kept.messages.length };
}

/** Without the oldest that are too many; the newest keep stay. */
function fromStart(held: Held, keep: number): Held {
  const from = held.messages.length - within(held.messages.toReversed(), keep);
  return from === 0 ? held : { ...held, messages: held.messages.slice(from), start: false };
}

/** Without the newest that are too many; the oldest keep stay. */
function fromEnd(held: Held, keep: number): Held {
  const to = within(held.messages, keep);
  return to === held.messages.length ? held : { ...held, messages: held.messages.slice(0, to), end: false };
}

/** How many of the messages, from the first on, can be held; keep of them at least. */
function within(messages: readonly wire.Message[], keep: number): number {
  let [n, text] = [0, 0];
  for (const m of messages) {
    text += sizeOf(m);
    if (n >= keep && (n >= maxHeld || text > maxText)) break;
    n++;
  }
  return n;
}

const sizes = new WeakMap<wire.Message, number>();

function sizeOf(message: wire.Message): number {
  let size = sizes.get(message);
  if (size === undefined) sizes.set(message, (size = message.body === undefined ? 0 : textOf(message.body).length));
  return size;
}

/** Both, in the order of their IDs; of one that is in both, that of b. */
function merged(a: readonly wire.Message[], b: readonly wire.Message[]): wire.Message[] {
  const byId = new Map([...a, ...b].map((m) => [m.id, m]));
  return [...byId.values()].sort((x, y) => (x.id < y.id ? -1 : 1));
}
