// Dialogs, on the browser's own <dialog>: it keeps the focus inside, closes on
// Escape unless that would lose something, and gives the focus back.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Result } from "@keyfold/sdk";
import { Field, Form } from "./form.js";

export interface DialogProps {
  title: string;
  close: () => void;
  /** Only what is in it closes it: no Escape, no button of its own. */
  stays?: boolean;
  children: ComponentChildren;
}

export function Dialog({ title, close, stays, children }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => ref.current?.showModal(), []);
  return (
    <dialog ref={ref} aria-labelledby={id} closedby={stays ? "none" : "closerequest"} onClose={close} onCancel={stays ? (event) => event.preventDefault() : close}>
      <header>
        <h2 id={id}>{title}</h2>
        {!stays && (
          <button type="button" class="plain" aria-label="Close" onClick={close}>
            ×
          </button>
        )}
      </header>
      {children}
    </dialog>
  );
}

export interface ConfirmProps<T> {
  title: string;
  /** What will happen, and what cannot be undone. */
  children: ComponentChildren;
  /** What has to be typed before it can be done; absent: nothing. */
  name?: string;
  submit: string;
  send: () => Promise<Result<T>>;
  done: (data: T) => void;
  close: () => void;
}

/** Asks before something that cannot be undone, by its name when it is large. */
export function Confirm<T>({ title, children, name, submit, send, done, close }: ConfirmProps<T>) {
  const [typed, setTyped] = useState("");
  return (
    <Dialog title={title} close={close}>
      <Form submit={submit} send={send} done={done} cancel={close} danger disabled={name !== undefined && typed !== name}>
        {children}
        {name !== undefined && <Field label={`Type ${name} to confirm`} value={typed} onValue={setTyped} />}
      </Form>
    </Dialog>
  );
}
