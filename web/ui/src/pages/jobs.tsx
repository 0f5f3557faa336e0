// Jobs: the rotations of the vaults that the user may see, and, for an operator,
// all that goes on in the server.

import { useEffect } from "preact/hooks";
import { Head } from "../ui/parts.js";
import { ForgetKey, Operator } from "../ui/operator.js";
import { Rotations } from "./jobs/rotations.js";
import { ServerJobs } from "./jobs/server.js";

export default function Jobs() {
  useEffect(() => void (document.title = "Jobs · Keyfold"), []);
  return (
    <>
      <Head title="Jobs">
        <ForgetKey />
      </Head>
      <Rotations />
      <Operator what="The jobs of the server (rewraps, rotations of KEKs and DEKs, purges) are for operators. Give an admin key to see and cancel them.">
        {(client) => <ServerJobs client={client} />}
      </Operator>
    </>
  );
}
