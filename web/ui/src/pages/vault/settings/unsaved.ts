// What is told about a key that was made here and not used yet: before the page is
// left, and after it was loaded again. The entry of the tab's history remembers
// which key that was, by its fingerprint; the key itself is nowhere but in memory.

import { useEffect } from "preact/hooks";

/** A key that was made for a vault and is not in use. */
export interface Unused {
  vault: string;
  fingerprint: string;
  file: string;
}

/** Remembers an unused key, or that there is none any more. */
export function rememberUnused(key: Unused | undefined): void {
  const { unusedKey: _, ...rest } = (history.state ?? {}) as Record<string, unknown>;
  history.replaceState(key ? { ...rest, unusedKey: key } : rest, "");
}

/** The key of a vault that was made here before the page was left or loaded again. */
export function recallUnused(vault: string): Unused | undefined {
  const { unusedKey } = (history.state ?? {}) as { unusedKey?: Unused };
  return unusedKey?.vault === vault ? unusedKey : undefined;
}

/** While on, asks before the page is closed, loaded again, or left by a link. */
export function useGuard(on: boolean, question: string): void {
  useEffect(() => {
    if (!on) return;
    const unload = (e: BeforeUnloadEvent) => e.preventDefault();
    const click = (e: MouseEvent) => {
      const link = e.target instanceof Element ? e.target.closest("a[href]:not([download])") : null;
      if (!link || link.getAttribute("href")?.startsWith("#") || confirm(question)) return;
      e.preventDefault();
      e.stopImmediatePropagation();
    };
    addEventListener("beforeunload", unload);
    document.addEventListener("click", click, true);
    return () => {
      removeEventListener("beforeunload", unload);
      document.removeEventListener("click", click, true);
    };
  }, [on, question]);
}
