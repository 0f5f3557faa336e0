// Editors of values, one for each kind. A value is text, or the bytes of a file.

import { useId, useState } from "preact/hooks";
import { Area } from "../../ui/form.js";
import { formatEnv, namePattern, parseEnv, type Row } from "./secrets-env.js";
import type { Kind } from "./secrets-kinds.js";

export type Draft = string | Uint8Array;

interface EditorProps {
  value: Draft;
  onValue: (value: Draft, fileName?: string) => void;
}

/** The editor of a kind of value. */
export function Editor({ kind, ...props }: EditorProps & { kind: Kind }) {
  if (kind === "file" || typeof props.value !== "string") return <FileEditor {...props} />;
  const text = { value: props.value, onValue: props.onValue };
  if (kind === "line") return <LineEditor {...text} />;
  if (kind === "pem") return <PemEditor {...text} />;
  if (kind === "env") return <EnvEditor {...text} />;
  return <Area label="Value" rows={6} mono {...text} />;
}

interface TextProps {
  value: string;
  onValue: (value: string) => void;
}

/** One line that is not shown while it is typed, unless one asks. */
function LineEditor({ value, onValue }: TextProps) {
  const [seen, setSeen] = useState(false);
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Value</label>
      <div class="joined">
        <input id={id} type={(seen ? "text" : "password") as "text"} value={value} autocomplete="off" spellcheck={false} onInput={(e) => onValue(e.currentTarget.value)} />
        <button type="button" aria-pressed={seen} aria-label={seen ? "Hide the value" : "Show the value"} onClick={() => setSeen(!seen)}>
          {seen ? "Hide" : "Show"}
        </button>
      </div>
    </div>
  );
}

const pem = /-----BEGIN [A-Z0-9 ]+-----[\s\S]+-----END [A-Z0-9 ]+-----/;

/** Many lines, typed, pasted, or from a file. */
function PemEditor({ value, onValue }: TextProps) {
  const odd = value.trim() !== "" && !pem.test(value) && !/^(ssh-|ecdsa-|sk-)/.test(value.trim());
  return (
    <>
      <Area label="Value" rows={10} mono value={value} onValue={onValue} placeholder="-----BEGIN …" hint={odd ? "This does not look like PEM; it is stored as it is" : "PEM, with its BEGIN and END lines"} />
      <FileField label="Or read it from a file" onFile={async (file) => onValue(await file.text())} />
    </>
  );
}

/** Names and values; the text itself where a table would lose something of it. */
function EnvEditor({ value, onValue }: TextProps) {
  // What was last written here. What came from elsewhere is read while it is rendered:
  // an effect would run after the next key, and take that back.
  const [own, setOwn] = useState<{ text: string; rows: Row[] | undefined }>();
  const write = (text: string, rows: Row[] | undefined) => {
    setOwn({ text, rows });
    onValue(text);
  };
  const rows = own?.text === value ? own.rows : rowsOf(value);
  // It stays text while it is typed.
  if (!rows) return <Area label="Value" rows={8} mono value={value} onValue={(text) => write(text, undefined)} hint="This bundle has comments or references, which a table would lose: it is edited as text" />;
  const change = (next: Row[]) => write(formatEnv(next), next);
  return (
    <>
      <Rows legend="Variables" rows={rows} change={change} add="Add a variable" pattern={namePattern} />
      <FileField label="Or read an .env file" onFile={async (file) => onValue(await file.text())} />
    </>
  );
}

/** The rows of a text, one at least; undefined where it has to stay text. */
function rowsOf(text: string): Row[] | undefined {
  const rows = parseEnv(text);
  return rows?.length === 0 ? [{ name: "", value: "" }] : rows;
}

/** A table of names and values that can be edited. */
export function Rows({ legend, rows, change, add, pattern }: { legend: string; rows: Row[]; change: (rows: Row[]) => void; add: string; pattern?: string }) {
  const set = (at: number, part: Partial<Row>) => change(rows.map((r, i) => (i === at ? { ...r, ...part } : r)));
  return (
    <fieldset class="rows">
      <legend>{legend}</legend>
      {rows.map((row, i) => (
        <div class="row" key={i}>
          <input aria-label={`Name ${i + 1}`} placeholder="Name" required={row.value !== ""} pattern={pattern} title={pattern && "Letters, digits and _, no digit first"} value={row.name} autocomplete="off" spellcheck={false} onInput={(e) => set(i, { name: e.currentTarget.value })} />
          <textarea aria-label={`Value ${i + 1}`} placeholder="Value" class="mono" rows={row.value.includes("\n") ? 3 : 1} value={row.value} spellcheck={false} onInput={(e) => set(i, { value: e.currentTarget.value })} />
          <button type="button" class="small" aria-label={`Remove ${row.name || `row ${i + 1}`}`} onClick={() => change(rows.filter((_, n) => n !== i))}>
            Remove
          </button>
        </div>
      ))}
      <div class="actions">
        <button type="button" class="small" onClick={() => change([...rows, { name: "", value: "" }])}>
          {add}
        </button>
      </div>
    </fieldset>
  );
}

function FileEditor({ value, onValue }: EditorProps) {
  const size = typeof value === "string" ? 0 : value.length;
  return (
    <>
      <FileField label="File" hint={size > 0 ? `${size.toLocaleString()} bytes` : "Up to about 6 MB"} onFile={async (file) => onValue(new Uint8Array(await file.arrayBuffer()), file.name)} />
    </>
  );
}

function FileField({ label, hint, onFile }: { label: string; hint?: string; onFile: (file: File) => Promise<void> }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="file" aria-describedby={hint ? `${id}-hint` : undefined} onChange={(e) => e.currentTarget.files?.[0] && void onFile(e.currentTarget.files[0])} />
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}
