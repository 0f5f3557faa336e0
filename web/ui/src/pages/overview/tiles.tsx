// The numbers at the top of the overview, each with a way to what it counts.

import type { wire } from "@keyfold/sdk";
import { useEvery, useLoad, type Loaded } from "../../load.js";
import { client } from "../../session.js";
import type { VaultRotation } from "../jobs/rotations.js";
import type { Found } from "./duework.js";
import { lastDay } from "./events.js";

type Kind = "good" | "warn" | "bad" | "";

/** A number, or a word, and what it is of. */
function Tile({ value, what, href, kind = "" }: { value: number | string | undefined; what: string; href: string; kind?: Kind }) {
  return (
    <li>
      <a href={href}>
        <b class={`${kind} ${typeof value === "string" ? "word" : ""}`}>{typeof value === "number" ? value.toLocaleString() : (value ?? "–")}</b>
        <span>{what}</span>
      </a>
    </li>
  );
}

export interface TilesProps {
  vaults: readonly wire.Vault[];
  due: Loaded<Found>;
  rotations: Loaded<VaultRotation[]>;
  events: Loaded<wire.AuditEvents>;
}

export function Tiles({ vaults, due, rotations, events }: TilesProps) {
  const items = due.data?.items.length;
  const under = rotations.data?.filter((j) => j.status === "running" || j.status === "interrupted");
  const stuck = under?.some((j) => j.status === "interrupted");
  const not = events.data && lastDay(events.data.events).filter((e) => e.outcome === "refused" || e.outcome === "failed").length;
  const sealed = vaults.filter((v) => v.cmek_enabled).length;
  return (
    <ul class="tiles" aria-label="In short">
      <Tile value={vaults.length} what={`${vaults.length === 1 ? "vault" : "vaults"}, ${sealed.toLocaleString()} sealed`} href="/ui/vaults" />
      <Tile value={items} what="due" href="#due" kind={items ? "warn" : ""} />
      <Tile value={under?.length} what={stuck ? "rotating, some interrupted" : "rotating"} href="/ui/jobs" kind={stuck ? "warn" : ""} />
      <Tile value={not} what="refused or failed in 24 hours" href="/ui/audit" kind={not ? "warn" : ""} />
      <KeyProcess />
    </ul>
  );
}

function KeyProcess() {
  const keys = useLoad(() => client.keyHealth(), []);
  useEvery(10_000, keys.reload);
  const works = keys.data?.status === "ok";
  return <Tile value={keys.data && (works ? "works" : "away")} what="key process" href="/ui/keys" kind={keys.data ? (works ? "good" : "bad") : ""} />;
}
