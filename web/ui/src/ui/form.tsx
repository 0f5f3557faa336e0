// Forms: labelled fields, and a form that shows what went wrong and cannot be sent twice.

import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useId, useState } from "preact/hooks";
import type { ErrorInfo, Result } from "@keyfold/sdk";
import { isLost, settle } from "../load.js";
import { Problem } from "./state.js";

interface TextProps {
  label: string;
  hint?: ComponentChildren;
  value: string;
  onValue: (value: string) => void;
  required?: boolean;
  disabled?: boolean;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  placeholder?: string;
}

interface FieldProps extends TextProps {
  type?: "text" | "email" | "password" | "search" | "number" | "datetime-local" | "url";
  inputMode?: "numeric" | "text";
  autocomplete?: string;
  min?: number | string;
  max?: number | string;
  /** What may be put in, with what each stands for; anything else may be, too. */
  options?: readonly (readonly [value: string, label: string])[];
}

/** One line of text with its label and, under it, a hint. */
export function Field({ label, hint, value, onValue, type = "text", autocomplete = "off", options, ...rest }: FieldProps) {
  const id = useId();
  const input = { id, value, type, autocomplete, spellcheck: false, "aria-describedby": hint ? `${id}-hint` : undefined, list: options && `${id}-list`, ...rest };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input {...(input as InputHTMLAttributes)} onInput={(e) => onValue(e.currentTarget.value)} />
      {options && (
        <datalist id={`${id}-list`}>
          {options.map(([v, text]) => (
            <option key={v} value={v} label={text} />
          ))}
        </datalist>
      )}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** Many lines of text. */
export function Area({ label, hint, value, onValue, rows = 6, mono, ...rest }: TextProps & { rows?: number; mono?: boolean }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea id={id} value={value} onInput={(e) => onValue(e.currentTarget.value)} aria-describedby={hint ? `${id}-hint` : undefined} spellcheck={false} rows={rows} class={mono ? "mono" : ""} {...rest} />
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** One of some values. */
export function Choice({ label, value, onValue, options }: { label: string; value: string; onValue: (value: string) => void; options: readonly (readonly [value: string, label: string])[] }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(e) => onValue(e.currentTarget.value)}>
        {options.map(([v, text]) => (
          <option key={v} value={v}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

export function Check({ label, checked, onChecked }: { label: ComponentChildren; checked: boolean; onChecked: (checked: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} onChange={(e) => onChecked(e.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

export interface FormProps<T> {
  /** Of the button that sends it. */
  submit: string;
  /** Makes the call. */
  send: () => Promise<Result<T>>;
  /** Is told the answer. */
  done: (data: T) => void;
  /** Closes the form without sending it. */
  cancel?: () => void;
  /** Styles the button as one that takes something away. */
  danger?: boolean;
  disabled?: boolean;
  children?: ComponentChildren;
}

/** A form that makes one call: one at a time, its error under the fields. */
export function Form<T>({ submit, send, done, cancel, danger, disabled, children }: FormProps<T>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorInfo | null>(null);
  const onSubmit = async (e: Event) => {
    e.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    const got = await settle(send);
    setBusy(false);
    if (got.error) setError(got.error);
    else done(got.data);
  };
  return (
    <form onSubmit={(e) => void onSubmit(e)} noValidate={false}>
      {children}
      <Problem error={error} />
      {isLost(error) && <p class="hint">It may have been done all the same: look before you send it again.</p>}
      <div class="actions">
        <button type="submit" class={danger ? "danger" : "primary"} disabled={busy || disabled} aria-busy={busy}>
          {submit}
        </button>
        {cancel && (
          <button type="button" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
    </form>
  );
}
