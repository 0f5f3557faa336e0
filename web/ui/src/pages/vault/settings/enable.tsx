// Enabling CMEK: a key, its file, "I have saved it", and the fingerprint goes to the server.

import type { wire } from "@keyfold/sdk";
import { useState } from "preact/hooks";
import { keep } from "../../../keys.js";
import { client } from "../../../session.js";
import { Check, Form } from "../../../ui/form.js";
import { toast } from "../../../ui/toast.js";
import { ChooseKey, useKey } from "./choosekey.js";
import { rememberUnused } from "./unsaved.js";

export function Enable({ vault, done, cancel }: { vault: wire.Vault; done: () => void; cancel: () => void }) {
  const [chosen, setChosen] = useKey();
  const [bound, setBound] = useState(false);
  const [check, setCheck] = useState(true);
  const send = async () => {
    const { key } = chosen!;
    const request: wire.EnableCmek = { fingerprint: key.fingerprint, blob_version: bound ? 2 : 1 };
    if (check) request.key_check = await key.check(vault.id);
    return client.vault.enableCmek(vault.id, request, { keyCheck: false }); // but the one above
  };
  const enabled = () => {
    keep(chosen!.key);
    rememberUnused(undefined);
    toast("CMEK is enabled");
    done();
  };
  const left = () => {
    rememberUnused(undefined);
    cancel();
  };
  return (
    <Form submit="Enable" send={send} done={enabled} cancel={left} disabled={!chosen?.saved}>
      <ChooseKey vault={vault} chosen={chosen} onChosen={setChosen} />
      <details class="stack">
        <summary>Options</summary>
        <Check
          label={
            <>
              Send a key check
              <span class="hint">With it clients know a wrong key before they write with it: an HMAC of this vault's ID under a key that is derived from yours. Like the fingerprint it opens nothing, and the key cannot be had from it.</span>
            </>
          }
          checked={check}
          onChecked={setCheck}
        />
        <Check
          label={
            <>
              Bound blobs (version 2)
              <span class="hint">A value opens in its own vault and at its own path only. Needs clients of Keyfold; other published clients refuse such blobs.</span>
            </>
          }
          checked={bound}
          onChecked={setBound}
        />
      </details>
      <p class="hint">
        {check ? "The key's fingerprint and its key check are all of it that is sent" : "The key's fingerprint is all of it that is sent"}: neither the key nor anything that opens a value leaves this browser. Values that are
        in the vault already stay as they are: write them again to seal them.
      </p>
    </Form>
  );
}
