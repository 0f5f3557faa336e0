// Small parts that pages are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { toast } from "./toast.js";

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const steps: [Intl.RelativeTimeFormatUnit, number][] = [["year", 31_557_600], ["month", 2_629_800], ["day", 86_400], ["hour", 3_600], ["minute", 60]];

const toTheSecond = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A time in the user's zone, relative where that is short; the exact one is its title. */
export function Time({ at, exact }: { at: string | number | undefined; exact?: boolean | "second" }) {
  if (at === undefined) return <span class="quiet">never</span>;
  const date = new Date(at);
  const seconds = (date.getTime() - Date.now()) / 1000;
  const unit = steps.find(([, size]) => Math.abs(seconds) >= size);
  const text = exact ? (exact === "second" ? toTheSecond : dateTime).format(date) : unit ? relative.format(Math.trunc(seconds / unit[1]), unit[0]) : "just now";
  return (
    <time dateTime={date.toISOString()} title={dateTime.format(date)}>
      {text}
    </time>
  );
}

export function Badge({ kind = "plain", children }: { kind?: "plain" | "good" | "warn" | "bad" | "sealed"; children: ComponentChildren }) {
  return <span class={`badge ${kind}`}>{children}</span>;
}

/** Copies a text, and says so, or that the browser refused it. */
export async function copyText(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return toast(`The browser did not copy ${what}: mark and copy it by hand`);
  }
  toast(`Copied ${what}`);
}

export function Copy({ text, what }: { text: string | (() => string | Promise<string>); what: string }) {
  const copy = async () => copyText(typeof text === "string" ? text : await text(), what);
  return (
    <button type="button" class="small" onClick={() => void copy()} aria-label={`Copy ${what}`}>
      Copy
    </button>
  );
}

/** A fingerprint or ID: shortened to read, whole to copy. */
export function Id({ value, what }: { value: string; what: string }) {
  return (
    <span class="id">
      <code title={value}>{value.length > 20 ? `${value.slice(0, 8)}…${value.slice(-6)}` : value}</code>
      <Copy text={value} what={what} />
    </span>
  );
}

/** How far a job is; left says how long it may still take. */
export function Progress({ done, of, label, left }: { done: number; of: number; label: string; left?: string | undefined }) {
  const percent = of > 0 ? Math.min(100, Math.floor((100 * done) / of)) : 0;
  return (
    <div class="progress">
      <progress max={of || 1} value={done} aria-label={label} />
      <span>
        {done.toLocaleString()} of {of.toLocaleString()} ({percent}%){left && <span class="quiet"> · {left}</span>}
      </span>
    </div>
  );
}

/** A heading with what can be done beside it. */
export function Head({ title, level = 1, children }: { title: ComponentChildren; level?: 1 | 2; children?: ComponentChildren }) {
  const H = level === 1 ? "h1" : "h2";
  return (
    <div class="head">
      <H>{title}</H>
      {children && <div class="actions">{children}</div>}
    </div>
  );
}

/** The heading of a column: of numbers, of what is at the end of a row, or of what needs no heading that is seen. */
export interface Column {
  name: string;
  kind: "num" | "end" | "sr";
}

/** A table that scrolls by itself where it is too wide; rows are tr elements. */
export function Table({ label, columns, children }: { label: string; columns: readonly (string | Column)[]; children: ComponentChildren }) {
  return (
    <div class="table" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map((c) => (typeof c === "string" ? { name: c, kind: "" } : c)).map(({ name, kind }) => (
              <th key={name} scope="col" class={kind === "sr" ? "end" : kind}>
                {kind === "sr" ? <span class="sr">{name}</span> : name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export interface Tab {
  path: string;
  name: string;
}

/** Links between the parts of one thing. */
export function Tabs({ label, tabs, at }: { label: string; tabs: Tab[]; at: string }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((t) => (
        <a key={t.path} href={t.path} aria-current={t.path === at ? "page" : undefined}>
          {t.name}
        </a>
      ))}
    </nav>
  );
}

/** A file for the user to keep, made in this page. */
export function download(name: string, content: BlobPart, type = "application/octet-stream"): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}

const hideAfter = 30_000;

/** A value that is hidden until it is asked for, and again 30 seconds later or when the tab is left. */
export function Hidden({ value, what }: { value: string; what: string }) {
  const [seen, setSeen] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    if (!seen) return;
    const hide = () => setSeen(false);
    timer.current = setTimeout(hide, hideAfter);
    document.addEventListener("visibilitychange", hide);
    return () => {
      clearTimeout(timer.current);
      document.removeEventListener("visibilitychange", hide);
    };
  }, [seen]);
  return (
    <div class="hidden-value">
      {seen ? <pre tabIndex={0}>{value}</pre> : <pre aria-label={`${what}, hidden`}>••••••••••••</pre>}
      <div class="actions">
        <button type="button" class="small" aria-pressed={seen} onClick={() => setSeen(!seen)}>
          {seen ? "Hide" : "Reveal"}
        </button>
        <Copy text={value} what={what} />
      </div>
    </div>
  );
}
