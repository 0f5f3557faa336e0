// The CMEK keys that this tab has unlocked. They are CryptoKeys that give no
// bytes out, in memory only, and forgotten on lock, sign-out, or when nobody has
// touched the page for a while.

import { CmekError, CmekKey, parseCmekKeyFile } from "@keyfold/sdk";
import { effect, signal, untracked } from "@preact/signals";
import { client, user } from "./session.js";

/** Fingerprints of the keys at hand. */
export const unlocked = signal<ReadonlySet<string>>(new Set());

/** How often the keys were forgotten; forms drop the keys that they hold when it changes. */
export const locks = signal(0);

/** How long nobody may touch the page before its keys are forgotten, in ms. */
export const idleLimit = 10 * 60_000;

/** Reads a key file and keeps its key. Throws a CmekError when it is not a key file, or is of another fingerprint. */
export async function unlock(file: File, fingerprint?: string): Promise<void> {
  const raw = await parseCmekKeyFile(new Uint8Array(await file.arrayBuffer()));
  try {
    const key = await CmekKey.from(raw);
    if (fingerprint !== undefined && key.fingerprint !== fingerprint) throw new CmekError("fingerprint_mismatch", `This file holds the key ${key.fingerprint}; ${fingerprint} is needed`);
    keep(key);
  } finally {
    raw.fill(0);
  }
}

/** Keeps a key that is at hand already. */
export function keep(key: CmekKey): void {
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
  let timer = setTimeout(lock, idleLimit);
  const touched = () => {
    clearTimeout(timer);
    timer = setTimeout(lock, idleLimit);
  };
  for (const event of ["pointerdown", "keydown", "visibilitychange"]) document.addEventListener(event, touched, { passive: true });
}
