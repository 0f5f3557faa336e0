// Signing in: a password, and a code where the user has set that up; or a passkey,
// which is both. And signing up, where it is open.

import { useEffect, useState } from "preact/hooks";
import type { ErrorInfo, wire } from "@keyfold/sdk";
import { settle } from "../load.js";
import { client, endAgain, signedIn, unended } from "../session.js";
import { Field, Form } from "../ui/form.js";
import { Problem } from "../ui/state.js";

/** What is shown: the first step, the code that the second one asks for, or the form of a new account. */
type Step = { what: "password" } | { what: "code"; mfa: string } | { what: "new" };

export function SignIn() {
  const [step, go] = useState<Step>({ what: "password" });
  useEffect(() => void (document.title = "Sign in · Keyfold"), []);
  const first = () => go({ what: "password" });
  return (
    <main class="signin">
      <h1>
        <img src="/ui/icon.svg" alt="" width="40" height="40" /> Keyfold
      </h1>
      <Unended />
      {step.what === "password" && <Password code={(mfa) => go({ what: "code", mfa })} />}
      {step.what === "code" && <Code mfa={step.mfa} back={first} />}
      {step.what === "new" && <SignUp />}
      {step.what !== "new" && <ByPasskey />}
      {step.what !== "code" && (
        <button type="button" class="plain" onClick={() => (step.what === "new" ? first() : go({ what: "new" }))}>
          {step.what === "new" ? "Sign in to an account that there is" : "Make an account"}
        </button>
      )}
    </main>
  );
}

/** Says that the last session goes on at the server. */
function Unended() {
  const error = unended.value;
  if (!error) return null;
  const message = `You are signed out here, but the server was not told: whoever uses this browser can go on with your session. ${error.message}`;
  return <Problem error={{ ...error, message }} retry={() => void endAgain()} />;
}

function Password({ code }: { code: (mfa: string) => void }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const done = (answer: wire.SignedIn) => (answer.mfa_token ? code(answer.mfa_token) : void signedIn());
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
    <Form submit="Go on" send={() => client.auth.verifyMfa({ mfa_token: mfa, code })} done={() => void signedIn()} cancel={back}>
      <Field label="Code" hint="Six digits of your app, or one of your recovery codes" inputMode="text" autocomplete="one-time-code" required value={code} onValue={setCode} />
    </Form>
  );
}

/** A passkey is both factors, so that it stands for the password and for the code. */
function ByPasskey() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorInfo | null>(null);
  if (!("PublicKeyCredential" in globalThis)) return null;
  const send = async () => {
    setBusy(true);
    setError(null);
    const got = await settle(() => client.auth.passkeys.signIn());
    setBusy(false);
    if (got.error) setError(got.error);
    else void signedIn();
  };
  return (
    <div class="stack">
      <Problem error={error} />
      <button type="button" disabled={busy} aria-busy={busy} onClick={() => void send()}>
        Sign in with a passkey
      </button>
    </div>
  );
}

function SignUp() {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  const [invitation, setInvitation] = useState("");
  const send = () => client.auth.signUp({ email, password, display_name: name, ...(invitation.trim() === "" ? {} : { invitation: invitation.trim() }) });
  return (
    <Form submit="Make the account" send={send} done={() => void signedIn()}>
      <Field label="Name" autocomplete="name" value={name} onValue={setName} />
      <Field label="Email" type="email" autocomplete="username" required value={email} onValue={setEmail} />
      <Field label="Password" type="password" autocomplete="new-password" required minLength={12} hint={passwordRules} value={password} onValue={setPassword} />
      <Field label="Invitation" hint="When you have one: you join its org. Without one you begin an org of your own." value={invitation} onValue={setInvitation} />
    </Form>
  );
}

/** What the server asks of a new password. */
export const passwordRules = "12 characters or more, with upper and lower case, a digit and a special character; no three that are equal or in sequence";
