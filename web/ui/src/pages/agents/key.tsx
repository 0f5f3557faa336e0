// The API key of an agent, which is shown once.

import type { wire } from "@keyfold/sdk";
import { useState } from "preact/hooks";
import { Dialog } from "../../ui/dialog.js";
import { Check } from "../../ui/form.js";
import { Copy, download } from "../../ui/parts.js";

export interface NewKey {
  agent: wire.Agent;
  key: string;
}

/** Shows a key until it is closed; nobody can have it again. */
export function KeyOnce({ made: { agent, key }, close }: { made: NewKey; close: () => void }) {
  const [saved, setSaved] = useState(false);
  return (
    <Dialog title={`The key of ${agent.name}`} close={close}>
      <div class="stack">
        <p class="notice">This key is shown now and never again. Copy or download it, and give it to the program.</p>
        <div class="hidden-value">
          <pre tabIndex={0} aria-label="API key">
            {key}
          </pre>
        </div>
        <div class="actions">
          <Copy text={key} what="the key" />
          <button type="button" class="small" onClick={() => download(fileName(agent.name), `${key}\n`, "text/plain")}>
            Download
          </button>
        </div>
        <p class="hint">
          Programs take it from <code>KEYFOLD_API_KEY</code>.
        </p>
        <Check label="I have saved the key" checked={saved} onChecked={setSaved} />
        <div class="actions">
          <button type="button" class="primary" disabled={!saved} onClick={close}>
            Done
          </button>
        </div>
      </div>
    </Dialog>
  );
}

/** A name for the file that any system takes. */
function fileName(agent: string): string {
  return `${agent.replace(/[^\w-]+/g, "-").replace(/^-+|-+$/g, "") || "agent"}.api-key.txt`;
}
