// Keys: whether the key process works, the CMEK keys of the vaults, and, for an
// operator, the KEKs, the threads' DEKs, and their rotation.

import { useEffect } from "preact/hooks";
import { useEvery, useLoad } from "../load.js";
import { operator } from "../operator.js";
import { client } from "../session.js";
import { ForgetKey, Operator } from "../ui/operator.js";
import { Badge, Head } from "../ui/parts.js";
import { Show } from "../ui/state.js";
import { CmekKeys } from "./keys/cmek.js";
import { OperatorKeys } from "./keys/operator.js";
import { Root } from "./keys/root.js";

export default function Keys() {
  useEffect(() => void (document.title = "Keys · Keyfold"), []);
  return (
    <>
      <Head title="Keys">
        <ForgetKey />
      </Head>
      <div class="grid">
        <KeyProcess />
        {operator.value && <Root client={operator.value} />}
      </div>
      <CmekKeys />
      <Operator what="KEKs, the root key, and the DEKs of threads are for operators. Give an admin key to see and rotate them.">{(admin) => <OperatorKeys client={admin} />}</Operator>
    </>
  );
}

function KeyProcess() {
  const keys = useLoad(() => client.keyHealth(), []);
  useEvery(10_000, keys.reload);
  return (
    <section class="card" aria-label="Key process">
      <h2>Key process</h2>
      <Show of={keys} what="the state of the key process">
        {({ status }) =>
          status === "ok" ? (
            <p>
              <Badge kind="good">works</Badge> It is unlocked, and its KEKs can be used.
            </p>
          ) : (
            <p>
              <Badge kind="bad">away</Badge> It does not answer, or its root key is locked. Until it works, nothing that needs a KEK can be read or written. On its machine, <code>keyfold-kms status</code> says why.
            </p>
          )
        }
      </Show>
    </section>
  );
}
