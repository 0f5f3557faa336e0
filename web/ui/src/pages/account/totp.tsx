// The second factor: an app that shows codes, and the recovery codes beside it.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { client, whoAmI } from "../../session.js";
import { Dialog } from "../../ui/dialog.js";
import { Field, Form } from "../../ui/form.js";
import { Once } from "../../ui/once.js";
import { Badge, Copy } from "../../ui/parts.js";
import { toast } from "../../ui/toast.js";
import { Qr } from "./qr.js";

/** What is open over the page. */
type Open = { what: "password" } | { what: "code"; totp: wire.TOTP } | { what: "recovery"; codes: string[] } | { what: "off" };

export function SecondFactor({ me }: { me: wire.Profile }) {
  const [open, setOpen] = useState<Open>();
  return (
    <section class="card">
      <h2>
        Second factor <Badge kind={me.totp_enabled ? "good" : "warn"}>{me.totp_enabled ? "on" : "off"}</Badge>
      </h2>
      <p class="quiet">{me.totp_enabled ? "Signing in asks for a code of your app after the password." : "With a code of an app beside it, a stolen password alone does not sign in."}</p>
      <div class="actions">
        {me.totp_enabled ? (
          <button type="button" class="danger" onClick={() => setOpen({ what: "off" })}>
            Turn it off
          </button>
        ) : (
          <button type="button" class="primary" onClick={() => setOpen({ what: "password" })}>
            Set it up
          </button>
        )}
      </div>
      {open && <Step open={open} go={setOpen} />}
    </section>
  );
}

function Step({ open, go }: { open: Open; go: (open: Open | undefined) => void }) {
  const close = () => go(undefined);
  switch (open.what) {
    case "password":
      return <AskPassword close={close} done={(totp) => go({ what: "code", totp })} />;
    case "code":
      return <AddToApp totp={open.totp} close={close} done={(codes) => go({ what: "recovery", codes })} />;
    case "recovery":
      return <Recovery codes={open.codes} close={close} />;
    case "off":
      return <TurnOff close={close} />;
  }
}

function AskPassword({ done, close }: { done: (totp: wire.TOTP) => void; close: () => void }) {
  const [password, setPassword] = useState("");
  return (
    <Dialog title="Set up a second factor" close={close}>
      <Form submit="Go on" send={() => client.auth.beginTotp({ password })} done={done} cancel={close}>
        <Field label="Your password, once more" type="password" autocomplete="current-password" required value={password} onValue={setPassword} />
      </Form>
    </Dialog>
  );
}

function AddToApp({ totp, done, close }: { totp: wire.TOTP; done: (codes: string[]) => void; close: () => void }) {
  const [code, setCode] = useState("");
  return (
    <Dialog title="Add it to your app" close={close}>
      <Form submit="Turn it on" send={() => client.auth.confirmTotp({ code: code.replace(/\s/g, "") })} done={(answer) => done(answer.recovery_codes)} cancel={close}>
        <div class="stack">
          <p>
            Scan this with your app, or <a href={totp.otpauth_uri}>open the app</a> on this device, or type the secret into it. The app shows six digits, new ones every 30 seconds.
          </p>
          <Qr text={totp.otpauth_uri} label="QR code of the secret" />
          <div class="hidden-value">
            <pre tabIndex={0} aria-label="Secret">
              {totp.secret.match(/.{1,4}/g)?.join(" ")}
            </pre>
          </div>
          <div class="actions">
            <Copy text={totp.secret} what="the secret" />
          </div>
        </div>
        <Field label="Code that the app shows" inputMode="numeric" autocomplete="one-time-code" required pattern="\s*([0-9]\s*){6}" value={code} onValue={setCode} />
      </Form>
    </Dialog>
  );
}

function Recovery({ codes, close }: { codes: string[]; close: () => void }) {
  const saved = () => {
    close();
    toast("The second factor is on");
    void whoAmI();
  };
  return (
    <Once title="Your recovery codes" what="the recovery codes" text={codes.join("\n")} file="keyfold-recovery-codes.txt" close={saved}>
      <p>Each signs you in once in place of a code, when the app is lost. They are shown now and never again.</p>
    </Once>
  );
}

function TurnOff({ close }: { close: () => void }) {
  const [code, setCode] = useState("");
  const off = () => {
    close();
    toast("The second factor is off");
    void whoAmI();
  };
  return (
    <Dialog title="Turn the second factor off" close={close}>
      <Form submit="Turn it off" danger send={() => client.auth.disableTotp({ code: code.trim() })} done={off} cancel={close}>
        <p>From then on the password alone signs in. The recovery codes end with it.</p>
        <Field label="Code" hint="Six digits of your app, or one of your recovery codes" autocomplete="one-time-code" required value={code} onValue={setCode} />
      </Form>
    </Dialog>
  );
}
