// The API key of an agent, which is shown once.

import type { wire } from "@keyfold/sdk";
import { Once } from "../../ui/once.js";

export interface NewKey {
  agent: wire.Agent;
  key: string;
}

/** Shows a key until it is closed; nobody can have it again. */
export function KeyOnce({ made: { agent, key }, close }: { made: NewKey; close: () => void }) {
  return (
    <Once title={`The key of ${agent.name}`} what="the API key" text={key} file={fileName(agent.name)} close={close}>
      <p>
        This key is shown now and never again. Copy or download it, and give it to the program, which takes it from <code>KEYFOLD_API_KEY</code>.
      </p>
    </Once>
  );
}

/** A name for the file that any system takes. */
function fileName(agent: string): string {
  return `${agent.replace(/[^\w-]+/g, "-").replace(/^-+|-+$/g, "") || "agent"}.api-key.txt`;
}
