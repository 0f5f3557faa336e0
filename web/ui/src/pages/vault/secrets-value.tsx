// The value of a version: hidden until it is asked for, and hidden again, and
// forgotten, 30 seconds later, when the tab is left, or when its key is.

import { useEffect, useRef, useState } from "preact/hooks";
import type { ErrorInfo, SecretValue, wire } from "@keyfold/sdk";
import { unlocked } from "../../keys.js";
import { settle } from "../../load.js";
import { client } from "../../session.js";
import { copyText, download } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { parseEnv } from "./secrets-env.js";
import { fileNameOf, kindOf, textOf } from "./secrets-kinds.js";
import { Locked, UnlockButton } from "./unlock.js";

const hideAfter = 30_000;

export type Read = SecretValue<Uint8Array>;

/** Reads a version, which is recorded and counts against its read limit. */
export const read = (vault: wire.Vault, secret: wire.SecretMetadata) => settle(() => client.secrets.getVersionBytes(vault.id, secret.path, secret.version));

interface ValueProps {
  vault: wire.Vault;
  secret: wire.SecretMetadata;
  /** The fingerprint of the key that the version is sealed with; null: it is not sealed; undefined: not known. */
  sealedWith: string | null | undefined;
  onRead: () => void;
}

export function Value({ vault, secret, sealedWith, onRead }: ValueProps) {
  const { seen, error, busy, take, use, hide } = useValue(vault, secret, onRead);
  const needed = sealedWith === undefined ? vault.cmek_fingerprint : sealedWith;
  if (needed && !unlocked.value.has(needed)) return <Locked fingerprint={needed} what="Unlock it with its key file to see them." />;
  const open = seen?.cmek_encrypted && !seen.cmek_opened ? undefined : seen;
  return (
    <div class="hidden-value">
      {open ? <Shown value={open} /> : <pre aria-label="The value, hidden">••••••••••••</pre>}
      {seen && !open && <p class="notice">This version is sealed with the key {seen.cmek_fingerprint ?? "of the vault"}, which this tab does not have.</p>}
      <Problem error={error} />
      {(error?.code === "key_missing" || (seen && !open)) && <UnlockButton fingerprint={seen?.cmek_fingerprint} />}
      <div class="actions">
        <button type="button" class="small" aria-pressed={open !== undefined} disabled={busy} onClick={() => (seen ? hide() : void take(true))}>
          {seen ? "Hide" : "Reveal"}
        </button>
        <button type="button" class="small" disabled={busy} onClick={() => void use(copy)}>
          Copy
        </button>
        <button type="button" class="small" disabled={busy} onClick={() => void use(save)}>
          Download
        </button>
        {!seen && <span class="hint">Each read is recorded, and counts against a read limit</span>}
      </div>
    </div>
  );
}

function useValue(vault: wire.Vault, secret: wire.SecretMetadata, onRead: () => void) {
  const [seen, setSeen] = useState<Read>();
  const [error, setError] = useState<ErrorInfo>();
  const [busy, setBusy] = useState(false);
  const keys = unlocked.value;
  const there = useRef(true);
  const hide = () => setSeen(undefined);
  useEffect(() => () => void (there.current = false), []);
  useEffect(() => {
    if (seen?.cmek_opened) hide(); // a key came or went
    setError(undefined);
  }, [keys]);
  useEffect(() => {
    if (!seen) return;
    const timer = setTimeout(hide, hideAfter);
    document.addEventListener("visibilitychange", hide);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", hide);
      seen.value.fill(0);
    };
  }, [seen]);
  /** The value: the one that is shown, or one that is read now. */
  const take = async (show: boolean): Promise<Read | undefined> => {
    if (seen) return seen;
    setBusy(true);
    const got = await read(vault, secret);
    if (!there.current) return void got.data?.value.fill(0);
    setBusy(false);
    setError(got.error ?? undefined);
    onRead();
    if (got.data && (show || (got.data.cmek_encrypted && !got.data.cmek_opened))) setSeen(got.data);
    return got.data ?? undefined;
  };
  /** Does something with the value, which is forgotten after it unless it is shown. */
  const use = async (work: (value: Read) => void | Promise<void>): Promise<void> => {
    const value = await take(false);
    if (!usable(value)) return;
    await work(value);
    if (value !== seen) value.value.fill(0);
  };
  return { seen, error, busy, take, use, hide };
}

function Shown({ value }: { value: Read }) {
  const text = textOf(value.value);
  if (text === undefined) return <p>{value.value.length.toLocaleString()} bytes that are not text: download them to see them.</p>;
  const rows = kindOf(value.type) === "env" ? parseEnv(text) : undefined;
  if (!rows || rows.length === 0) return <pre tabIndex={0}>{text === "" ? "(empty)" : text}</pre>;
  return (
    <div class="table" role="region" aria-label="Variables" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Value</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((r, i) => (
            <tr key={i}>
              <td>
                <code>{r.name}</code>
              </td>
              <td>
                <code class="lines">{r.value}</code>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const usable = (value: Read | undefined): value is Read => value !== undefined && (!value.cmek_encrypted || value.cmek_opened);

async function copy(value: Read): Promise<void> {
  const text = textOf(value.value);
  if (text === undefined) return toast("The value is not text: download it");
  await copyText(text, "the value");
}

function save(value: Read): void {
  download(fileNameOf(value), new Uint8Array(value.value));
}
