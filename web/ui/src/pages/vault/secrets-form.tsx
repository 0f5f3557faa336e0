// Writing a secret: a new one, or the next version of one.

import { useEffect, useRef, useState } from "preact/hooks";
import { formatJson, KeyfoldError, type ErrorInfo, type PutSecret, type wire } from "@keyfold/sdk";
import { client } from "../../session.js";
import { Dialog } from "../../ui/dialog.js";
import { Check, Choice, Field, Form } from "../../ui/form.js";
import { Problem } from "../../ui/state.js";
import { Editor, Rows, type Draft } from "./secrets-editors.js";
import type { Row } from "./secrets-env.js";
import { Generate } from "./secrets-generate.js";
import { fileNameMember, kindOf, ownMetadata, textOf, typeOptions } from "./secrets-kinds.js";
import { read } from "./secrets-value.js";
import { isLocked, Locked } from "./unlock.js";

export interface WriteProps {
  vault: wire.Vault;
  /** The newest version; absent: a new secret. */
  of?: wire.SecretMetadata | undefined;
  /** Whether there is a secret at a path already. */
  taken: (path: string) => boolean;
  close: () => void;
  done: (written: wire.SecretMetadata) => void;
}

const pathPattern = "[A-Za-z0-9]([A-Za-z0-9_\\/\\-]*[A-Za-z0-9])?";

export function Write(props: WriteProps) {
  const { vault, of, close } = props;
  return (
    <Dialog title={of ? `New version of ${of.path}` : "New secret"} close={close}>
      {isLocked(vault) ? <Locked fingerprint={vault.cmek_fingerprint} what="Unlock it with its key file to write to it." /> : <Fields {...props} />}
    </Dialog>
  );
}

function Fields({ vault, of, taken, close, done }: WriteProps) {
  const [path, setPath] = useState(of?.path ?? "");
  const [type, setType] = useState<string>(of?.type ?? "generic");
  const [value, setValue] = useState<Draft>("");
  const [metadata, setMetadata] = useState<Row[]>(() => rowsOf(of?.metadata));
  const [expires, setExpires] = useState("");
  const [reads, setReads] = useState("");
  const [unsealed, setUnsealed] = useState(false);
  const [agrees, setAgrees] = useState(false);
  const kind = kindOf(type as wire.SecretType);
  const changeType = (next: string) => {
    setType(next);
    if (typeof value !== "string") setValue("");
  };
  const changeValue = (next: Draft, fileName?: string) => {
    setValue(next);
    if (fileName) setMetadata((rows) => [...rows.filter((r) => r.name !== fileNameMember && r.name !== ""), { name: fileNameMember, value: fileName }]);
  };
  const send = async () => {
    const secret: PutSecret = { type: type as wire.SecretType, value, metadata: { ...notText(of?.metadata), ...membersOf(metadata) } };
    if (expires) secret.expires_at = new Date(expires);
    if (reads) secret.max_access_count = Number(reads);
    if (!of && taken(path)) throw new KeyfoldError(`There is a secret at ${path}: open it, and write a new version of it`);
    if (kind === "file" && typeof value === "string") throw new KeyfoldError("Choose a file first");
    const got = await client.secrets.put(vault.id, path, secret, { allowUnsealed: !vault.cmek_enabled, acceptUnsealed: unsealed && agrees, ...(of && { ifMatch: of.version }) });
    if (got.error?.code !== "unsealed") return got;
    setUnsealed(true);
    throw new KeyfoldError("Nothing was sent: the server says that this vault is no longer sealed.");
  };
  const submit = unsealed ? "Send it in the clear" : of ? "Store the version" : "Create the secret";
  return (
    <Form submit={submit} danger={unsealed} send={send} done={done} cancel={close} disabled={unsealed && !agrees}>
      {!of && <Field label="Path" required maxLength={512} pattern={pathPattern} hint="Such as db/credentials or OPENAI_KEY: letters, digits, _, - and /" value={path} onValue={setPath} />}
      <Choice label="Type" value={type} onValue={changeType} options={typeOptions(of?.type)} />
      {of && kind !== "file" && <Current vault={vault} of={of} take={setValue} />}
      <Editor key={kind} kind={kind} value={value} onValue={changeValue} />
      {(kind === "line" || kind === "text") && <Generate take={setValue} />}
      {vault.cmek_enabled && !unsealed && <p class="hint">The value is sealed here, before it leaves. Path, type and metadata are stored in the clear.</p>}
      <div class="two">
        <Field label="Expires" type="datetime-local" hint="Not readable from then on" value={expires} onValue={setExpires} />
        <Field label="Read limit" type="number" min={1} max={2147483647} hint="Not readable after so many reads" value={reads} onValue={setReads} />
      </div>
      <details>
        <summary>Metadata</summary>
        <Rows legend="Names and values, stored in the clear" rows={metadata} change={setMetadata} add="Add a member" />
        <Kept members={notText(of?.metadata)} />
      </details>
      {unsealed && <Unsealed fingerprint={vault.cmek_fingerprint} agrees={agrees} onAgrees={setAgrees} />}
    </Form>
  );
}

/** Asks before a value of a vault that was sealed leaves in the clear: the server may lie that it is no longer. */
function Unsealed({ fingerprint, agrees, onAgrees }: { fingerprint: string | undefined; agrees: boolean; onAgrees: (agrees: boolean) => void }) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => ref.current?.scrollIntoView({ block: "center" }), []);
  return (
    <div ref={ref} class="notice bad" role="alert">
      <p>
        <strong>This vault was sealed{fingerprint && ` with the key ${fingerprint.slice(0, 8)}`}, and the server now says that CMEK is disabled.</strong> Somebody has disabled it, or the server says so to get the value. Ask the
        vault's owner, or look for <code>vault.cmek_disable</code> in its audit, before you go on.
      </p>
      <Check label="I know that CMEK was disabled: send the value so that the server can read it" checked={agrees} onChecked={onAgrees} />
    </div>
  );
}

/** Members that are not text: shown, and stored again as they are. */
function Kept({ members }: { members: Record<string, unknown> }) {
  const all = Object.entries(members);
  if (all.length === 0) return null;
  return (
    <p class="hint">
      Kept as they are, since they are not text:{" "}
      {all.map(([name, value], i) => (
        <>
          {i > 0 && ", "}
          <code key={name}>
            {name}: {formatJson(value)}
          </code>
        </>
      ))}
    </p>
  );
}

/** Offers to begin with the newest version's value. It is not read unasked: a read is recorded, and may be the last. */
function Current({ vault, of, take }: { vault: wire.Vault; of: wire.SecretMetadata; take: (value: string) => void }) {
  const [error, setError] = useState<ErrorInfo>();
  const load = async () => {
    const got = await read(vault, of);
    const text = got.data && (!got.data.cmek_encrypted || got.data.cmek_opened) ? textOf(got.data.value) : undefined;
    if (text !== undefined) take(text);
    setError(got.error ?? (text === undefined ? { type: "unknown", message: "The value is not text that this tab can open; write a new one" } : undefined));
  };
  return (
    <>
      <div class="actions">
        <button type="button" class="small" onClick={() => void load()}>
          Begin with the value of version {of.version}
        </button>
        <span class="hint">It is read, which is recorded</span>
      </div>
      <Problem error={error} />
    </>
  );
}

/** The members of metadata that a row can hold. */
function rowsOf(metadata: Record<string, unknown> | undefined): Row[] {
  return Object.entries(ownMetadata(metadata)).flatMap(([name, value]) => (typeof value === "string" ? [{ name, value }] : []));
}

/** The members that none can; they are kept as they are. */
function notText(metadata: Record<string, unknown> | undefined): Record<string, unknown> {
  return Object.fromEntries(Object.entries(ownMetadata(metadata)).filter(([, value]) => typeof value !== "string"));
}

function membersOf(rows: Row[]): Record<string, string> {
  return Object.fromEntries(rows.filter((r) => r.name !== "").map((r) => [r.name, r.value]));
}
