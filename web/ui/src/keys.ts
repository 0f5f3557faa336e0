// The CMEK keys that this tab has unlocked. They are CryptoKeys that give no
// bytes out, in memory only, and forgotten on lock, sign-out, or when nobody has
// touched the page for a while.

import type { CmekKey } from "@keyfold/sdk";
import { effect, signal, untracked } from "@preact/signals";
import { client, user } from "./session.js";

/** Fingerprints of the keys at hand. */
export const unlocked = signal<ReadonlySet<string>>(new Set());

/** How often the keys were forgotten; forms drop the keys that they hold when it changes. */
export const locks = signal(0);

/** How long nobody may touch the page before its keys are forgotten, in ms. */
export const idleLimit = 10 * 60_000;

/** Keeps a key; not one whose user has signed out since he chose it. */
export function keep(key: CmekKey): void {
  if (!user.value) return;
  client.unlock(key);
  unlocked.value = new Set([...unlocked.value, key.fingerprint]);
}

/** Forgets all keys. */
export function lock(): void {
  client.lock();
  unlocked.value = new Set();
  locks.value++;
}

effect(() => {
  if (user.value === null) untracked(lock); // nobody is signed in, or no more
});

/** Forgets the keys when the page has not been touched for idleLimit. */
export function watchIdle(): void {
  whenIdle(lock);
}

/**
 * Does work each time that the page has not been touched for idleLimit, and until it is
 * stopped. By the clock: timers stand still while a computer sleeps, so the touch that
 * comes after it is looked at first.
 */
export function whenIdle(work: () => void): () => void {
  let last = Date.now();
  const idle = () => {
    last = Date.now(); // once is enough
    work();
  };
  let timer = setTimeout(idle, idleLimit);
  const touched = () => {
    clearTimeout(timer);
    if (Date.now() - last >= idleLimit) work();
    last = Date.now();
    timer = setTimeout(idle, idleLimit);
  };
  const events = ["pointerdown", "keydown", "visibilitychange"];
  for (const event of events) document.addEventListener(event, touched, { passive: true, capture: true });
  return () => {
    clearTimeout(timer);
    for (const event of events) document.removeEventListener(event, touched, { capture: true });
  };
}
