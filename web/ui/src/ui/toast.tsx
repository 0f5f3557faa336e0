// Short notes that something was done. What failed is told where it was tried, not here.

import { signal } from "@preact/signals";

const shown = signal<{ id: number; text: string }[]>([]);
let next = 0;
const lifeTime = 5_000;

/** Tells, for five seconds, that something was done. */
export function toast(text: string): void {
  const id = next++;
  shown.value = [...shown.value, { id, text }];
  setTimeout(() => (shown.value = shown.value.filter((t) => t.id !== id)), lifeTime);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((t) => (
        <p key={t.id}>{t.text}</p>
      ))}
    </div>
  );
}
