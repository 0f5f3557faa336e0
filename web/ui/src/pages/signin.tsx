// Signing in: a password, and a code where the user has set that up; and signing up, where it is open.

import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { client, whoAmI } from "../session.js";
import { Field, Form } from "../ui/form.js";

export function SignIn() {
  const [mfa, setMfa] = useState<string>();
  const [fresh, setFresh] = useState(false);
  useEffect(() => void (document.title = "Sign in · Keyfold"), []);
  const signedIn = (answer: wire.SignedIn) => {
    if (answer.mfa_required) setMfa(answer.mfa_token);
    else void whoAmI();
  };
  return (
    <main class="signin">
      <h1>
        <img src="/ui/icon.svg" alt="" width="40" height="40" /> Keyfold
      </h1>
      {mfa !== undefined ? <Code mfa={mfa} back={() => setMfa(undefined)} /> : fresh ? <SignUp /> : <Password done={signedIn} />}
      {mfa === undefined && (
        <button type="button" class="plain" onClick={() => setFresh(!fresh)}>
          {fresh ? "Sign in to an account that there is" : "Make an account"}
        </button>
      )}
    </main>
  );
}

function Password({ done }: { done: (answer: wire.SignedIn) => void }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  return (
    <Form submit="Sign in" send={() => client.auth.login({ email, password })} done={done}>
      <Field label="Email" type="email" autocomplete="username" required value={email} onValue={setEmail} />
      <Field label="Password" type="password" autocomplete="current-password" required value={password} onValue={setPassword} />
    </Form>
  );
}

function Code({ mfa, back }: { mfa: string; back: () => void }) {
  const [code, setCode] = useState("");
  return (
    <Form submit="Go on" send={() => client.auth.verifyMfa({ mfa_token: mfa, code })} done={() => void whoAmI()} cancel={back}>
      <Field label="Code" hint="Six digits of your app, or one of your recovery codes" inputMode="numeric" autocomplete="one-time-code" required value={code} onValue={setCode} />
    </Form>
  );
}

function SignUp() {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  return (
    <Form submit="Make the account" send={() => client.auth.signUp({ email, password, display_name: name })} done={() => void whoAmI()}>
      <Field label="Name" autocomplete="name" value={name} onValue={setName} />
      <Field label="Email" type="email" autocomplete="username" required value={email} onValue={setEmail} />
      <Field label="Password" type="password" autocomplete="new-password" required minLength={12} hint="12 characters or more" value={password} onValue={setPassword} />
    </Form>
  );
}
