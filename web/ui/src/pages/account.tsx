// The user's own account: who he is, how he signs in, and his API keys.

import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { client, signedOut, signOut, tellTabs, user, whoAmI } from "../session.js";
import { Confirm } from "../ui/dialog.js";
import { Field, Form } from "../ui/form.js";
import { Badge, Head, Id, Time } from "../ui/parts.js";
import { toast } from "../ui/toast.js";
import { ApiKeys } from "./account/keys.js";
import { Passkeys } from "./account/passkeys.js";
import { SecondFactor } from "./account/totp.js";
import { passwordRules } from "./signin.js";

export default function Account() {
  useEffect(() => void (document.title = "Account · Keyfold"), []);
  const me = user.value;
  if (!me) return null; // signed out: the frame shows the sign-in
  return (
    <>
      <Head title="Account" />
      <div class="grid">
        <Profile me={me} />
        <Password />
        <div class="stack">
          <SecondFactor me={me} />
          <Sessions />
        </div>
      </div>
      <Passkeys />
      <ApiKeys />
    </>
  );
}

function Profile({ me }: { me: wire.Profile }) {
  const [name, setName] = useState(me.display_name);
  const saved = () => {
    toast("Saved your name");
    void whoAmI();
  };
  return (
    <section class="card">
      <h2>Profile</h2>
      <dl class="facts">
        <dt>Email</dt>
        <dd>{me.email}</dd>
        <dt>Role</dt>
        <dd>
          <Badge>{me.role}</Badge>
        </dd>
        <dt>Since</dt>
        <dd>
          <Time at={me.created_at} exact />
        </dd>
        <dt>User ID</dt>
        <dd>
          <Id value={me.id} what="your user ID" />
        </dd>
      </dl>
      <Form submit="Save the name" send={() => client.auth.updateMe({ display_name: name })} done={saved} disabled={name === me.display_name}>
        <Field label="Name" autocomplete="name" maxLength={200} value={name} onValue={setName} />
      </Form>
    </section>
  );
}

function Password() {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [again, setAgain] = useState("");
  const changed = () => {
    setCurrent("");
    setNext("");
    setAgain("");
    tellTabs(); // their tokens have ended, and the browser's session goes on
    toast("Changed the password; your sessions elsewhere have ended");
  };
  const differ = again !== "" && again !== next;
  return (
    <section class="card">
      <h2>Password</h2>
      <Form submit="Change the password" send={() => client.auth.changePassword({ current_password: current, new_password: next })} done={changed} disabled={again !== next}>
        <Field label="Password now" type="password" autocomplete="current-password" required value={current} onValue={setCurrent} />
        <Field
          label="New password"
          type="password"
          autocomplete="new-password"
          required
          minLength={12}
          hint={passwordRules}
          value={next}
          onValue={setNext}
        />
        <Field label="New password again" type="password" autocomplete="new-password" required hint={differ ? "This is not the same as above" : undefined} value={again} onValue={setAgain} />
      </Form>
    </section>
  );
}

function Sessions() {
  const [asked, setAsked] = useState(false);
  return (
    <section class="card">
      <h2>Sessions</h2>
      <p class="quiet">This browser keeps your session in a cookie that no script can read, for all its tabs: signing out here ends it in all of them. Keys that you unlock are in the memory of one tab only.</p>
      <div class="actions">
        <button type="button" onClick={() => void signOut()}>
          Sign out here
        </button>
        <button type="button" class="danger" onClick={() => setAsked(true)}>
          Sign out everywhere
        </button>
      </div>
      {asked && (
        <Confirm title="Sign out everywhere" submit="Sign out everywhere" send={() => client.auth.logoutEverywhere()} done={signedOut} close={() => setAsked(false)}>
          <p>All your sessions end now, in every browser and program, this one too. API keys and agents go on.</p>
        </Confirm>
      )}
    </section>
  );
}
