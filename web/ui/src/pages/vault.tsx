// One vault: its secrets, who may use them, what happened, and its settings.

import type { ComponentType } from "preact";
import { useLocation, useRoute } from "preact-iso";
import { useEffect } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../load.js";
import { client } from "../session.js";
import { lazily } from "../ui/lazily.js";
import { Head, Tabs } from "../ui/parts.js";
import { Empty, Show } from "../ui/state.js";
import { Secrets } from "./vault/secrets.js";
import { isLocked, KeyBadge, UnlockButton } from "./vault/unlock.js";
import "./vault/vault.css";

/** What each tab is given. */
export interface TabProps {
  vault: wire.Vault;
  /** Reads the vault again, after a change of it. */
  reload: () => void;
}

const parts: Record<string, { name: string; Part: ComponentType<TabProps> }> = {
  secrets: { name: "Secrets", Part: Secrets },
  access: { name: "Access", Part: lazily(() => import("./vault/access.js")) },
  audit: { name: "Audit", Part: lazily(() => import("./vault/audit.js")) },
  settings: { name: "Settings", Part: lazily(() => import("./vault/settings.js")) },
};

export default function Vault() {
  const { params } = useRoute();
  const id = params["vault"] ?? "";
  const vault = useLoad(() => client.vault.get(id), [id]);
  return (
    <Show of={vault} what="the vault" title="Vault">
      {(v) => <Opened key={v.id} vault={v} tab={params["tab"] ?? "secrets"} reload={vault.reload} />}
    </Show>
  );
}

function Opened({ vault, tab, reload }: TabProps & { tab: string }) {
  const { path } = useLocation();
  const base = `/ui/vaults/${vault.id}`;
  const part = Object.hasOwn(parts, tab) ? parts[tab] : undefined;
  useEffect(() => void (document.title = `${part?.name ?? "No such page"} · ${vault.name} · Keyfold`), [part, vault.name]);
  return (
    <>
      <p class="trail">
        <a href="/ui/vaults">Vaults</a>
      </p>
      <Head
        title={
          <>
            {vault.name} <KeyBadge vault={vault} />
          </>
        }
      >
        {isLocked(vault) && <UnlockButton fingerprint={vault.cmek_fingerprint} />}
      </Head>
      {vault.description && <p class="quiet about">{vault.description}</p>}
      <Tabs label="Parts of the vault" tabs={Object.entries(parts).map(([to, { name }]) => ({ path: `${base}/${to}`, name }))} at={path === base ? `${base}/secrets` : path} />
      {part ? (
        <part.Part key={tab} vault={vault} reload={reload} />
      ) : (
        <Empty title="There is no such part of a vault">
          <a href={base}>Go to its secrets</a>
        </Empty>
      )}
    </>
  );
}
