// What is shown once and cannot be had again: a key, recovery codes.

import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { Dialog } from "./dialog.js";
import { Check } from "./form.js";
import { Copy, download } from "./parts.js";

export interface OnceProps {
  title: string;
  /** Of the thing, in a sentence: "the key". */
  what: string;
  text: string;
  /** The name of the download. */
  file: string;
  /** What it is for, and what happens without it. */
  children: ComponentChildren;
  close: () => void;
}

/** Shows a text until the user says that it is saved. */
export function Once({ title, what, text, file, children, close }: OnceProps) {
  const [saved, setSaved] = useState(false);
  return (
    <Dialog title={title} close={close} stays={!saved}>
      <div class="stack">
        <div class="notice">{children}</div>
        <div class="hidden-value">
          <pre tabIndex={0} aria-label={what}>
            {text}
          </pre>
        </div>
        <div class="actions">
          <Copy text={text} what={what} />
          <button type="button" class="small" onClick={() => download(file, `${text}\n`, "text/plain")}>
            Download
          </button>
        </div>
        <Check label={`I have saved ${what}`} checked={saved} onChecked={setSaved} />
        <div class="actions">
          <button type="button" class="primary" disabled={!saved} onClick={close}>
            Done
          </button>
        </div>
      </div>
    </Dialog>
  );
}
