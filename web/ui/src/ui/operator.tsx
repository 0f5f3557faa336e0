// What needs an operator's admin key, and the form that asks for it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { KeyfoldClient } from "@keyfold/sdk";
import { idleLimit } from "../keys.js";
import { enter, forget, operator } from "../operator.js";
import { Field, Form } from "./form.js";

/** Shows children with the operator's client; without one, asks for the key. what says what it is for. */
export function Operator({ what, children }: { what: string; children: (client: KeyfoldClient) => ComponentChildren }) {
  const client = operator.value;
  return client ? <>{children(client)}</> : <Ask what={what} />;
}

function Ask({ what }: { what: string }) {
  const [key, setKey] = useState("");
  return (
    <section class="card" aria-label="Operator's key">
      <h2>For operators</h2>
      <p class="quiet">{what}</p>
      <Form submit="Use this key" send={() => enter(key)} done={() => setKey("")}>
        <Field
          label="Admin key"
          type="password"
          required
          value={key}
          onValue={setKey}
          hint={`It stays in the memory of this tab, and is forgotten when you sign out, reload, or leave the page alone for ${idleLimit / 60_000} minutes.`}
        />
      </Form>
    </section>
  );
}

/** Says that the key is at hand, and forgets it. */
export function ForgetKey() {
  if (!operator.value) return null;
  return (
    <button type="button" onClick={forget}>
      Forget the admin key
    </button>
  );
}
