// The KEKs with their versions, and what can be done with them.

import { useId, useState } from "preact/hooks";
import type { KeyfoldClient, Result, wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import type { Paged } from "../../paged.js";
import { client as session } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Choice } from "../../ui/form.js";
import { Badge, Head, Id, Table, Time, type Column } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { Age, inDays } from "./age.js";
import { nameOfKek } from "./names.js";
import type { KeksInfo } from "./operator.js";
import { State, Uses } from "./use.js";

/** What is asked for, of which KEKs. */
interface Asked {
  to: "Rotate" | "Rewrap";
  name: string;
  request: wire.RotateKek;
}

const all: wire.RotateKek = { all: true };

export interface KeksProps {
  client: KeyfoldClient;
  keks: Paged<wire.Kek>;
  info: KeksInfo | undefined;
  started: (jobs: string[]) => void;
}

export function Keks({ client, keks, info, started }: KeksProps) {
  const vaults = useLoad(() => session.vault.list(), []);
  const [asked, setAsked] = useState<Asked>();
  const list = vaults.data?.vaults ?? [];
  const max = info?.max_age.kek;
  return (
    <section class="card">
      <Head level={2} title="KEKs">
        <button type="button" class="small" onClick={keks.reload}>
          Read again
        </button>
        <button type="button" class="small" onClick={() => setAsked({ to: "Rewrap", name: "all KEKs", request: all })}>
          Rewrap all
        </button>
        <button type="button" class="small danger" onClick={() => setAsked({ to: "Rotate", name: "all KEKs", request: all })}>
          Rotate all
        </button>
      </Head>
      <p class="hint">
        A rotation makes a new primary version of a KEK and rewraps the DEKs under it; values and messages stay as they are. A rewrap brings those under it that are not yet. Wraps are counted as the key process reserves them, some thousands at a time.
        {max ? ` By the operator's policy a KEK is due after ${inDays(max)}.` : ""}
      </p>
      <Problem error={keks.error} retry={keks.reload} />
      {keks.items === undefined && !keks.error && <Loading what="KEKs" />}
      {info?.available && keks.items && <KekTable keks={keks.items} info={info} vaults={list} ask={setAsked} />}
      {(info?.available === false || (keks.error && !keks.items)) && <Unlisted vaults={list} ask={setAsked} />}
      {keks.more && (
        <div class="actions">
          <button type="button" onClick={keks.more} disabled={keks.loading}>
            Show more KEKs
          </button>
        </div>
      )}
      {asked && <Ask asked={asked} client={client} started={started} close={() => setAsked(undefined)} />}
    </section>
  );
}

function Ask({ asked: { to, name, request }, client, started, close }: { asked: Asked; client: KeyfoldClient; started: (jobs: string[]) => void; close: () => void }) {
  const send: () => Promise<Result<wire.Jobs>> = () => (to === "Rotate" ? client.admin.rotateKek(request) : client.admin.rewrap(request));
  return (
    <Confirm
      title={to === "Rotate" ? `Rotate ${name}?` : `Rewrap what is under ${name}?`}
      submit={to}
      {...(to === "Rotate" && request.all ? { name: "all" } : {})}
      send={send}
      done={({ jobs }) => {
        close();
        started(jobs.map((j) => j.id));
      }}
      close={close}
    >
      <p>{to === "Rotate" ? "A version of a KEK is never taken back: the old one stays to open with until nothing is under it." : "This changes no KEK. It runs as a job, which you can cancel."}</p>
    </Confirm>
  );
}

/** Where the key process does not list its KEKs: they can be rotated by what they are of. */
function Unlisted({ vaults, ask }: { vaults: readonly wire.Vault[]; ask: (asked: Asked) => void }) {
  const [of, setOf] = useState("threads");
  const options = [["threads", "The KEK of the threads"], ...vaults.map((v) => [v.id, `The KEK of the vault ${v.name}`] as const)] as const;
  const name = (options.find(([id]) => id === of)?.[1] ?? of).replace(/^The/, "the");
  const request: wire.RotateKek = of === "threads" ? { threads: true } : { vault_id: of };
  return (
    <>
      <p class="quiet">They are not listed here, and can be rotated all the same.</p>
      <Choice label="KEK" value={of} onValue={setOf} options={options} />
      <div class="actions">
        <button type="button" class="danger" onClick={() => ask({ to: "Rotate", name, request })}>
          Rotate
        </button>
        <button type="button" onClick={() => ask({ to: "Rewrap", name, request })}>
          Rewrap
        </button>
      </div>
    </>
  );
}

const columns: readonly (string | Column)[] = ["KEK", { name: "Primary version", kind: "num" }, "Made", { name: "Wraps", kind: "num" }, "Other versions", { name: "Actions", kind: "sr" }];

interface TableProps {
  info: KeksInfo;
  vaults: readonly wire.Vault[];
  ask: (asked: Asked) => void;
}

function KekTable({ keks, ...rest }: TableProps & { keks: wire.Kek[] }) {
  if (keks.length === 0) {
    return (
      <Empty title="No KEKs yet">
        <p>The first vault or thread makes one.</p>
      </Empty>
    );
  }
  return (
    <Table label="KEKs" columns={columns}>
      {keks.map((k) => (
        <Row key={k.kek_id} kek={k} {...rest} />
      ))}
    </Table>
  );
}

/** What the server rotates by itself of KEKs: those of vaults and of threads. The rest is rotated with all. */
function requestFor(kek: wire.Kek): wire.RotateKek | undefined {
  if (kek.of === "threads") return { threads: true };
  return kek.of === "vault" && kek.vault_id ? { vault_id: kek.vault_id } : undefined;
}

function Row({ kek, info, vaults, ask }: TableProps & { kek: wire.Kek }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  const primary = kek.versions.at(-1);
  const name = nameOfKek(kek, vaults);
  const request = requestFor(kek);
  const deks = primary?.thread_deks;
  return (
    <>
      <tr>
        <td>
          {kek.of === "vault" && <span class="quiet">vault </span>}
          {name} {kek.damaged && <Badge kind="bad">damaged</Badge>}
          <br />
          <Id value={kek.kek_id} what="the KEK's ID" />
        </td>
        <td class="num">{primary?.version}</td>
        <td>
          <Age at={primary?.created_at} max={info.max_age.kek} />
        </td>
        <td class="num">
          {primary && <Uses count={primary.wraps} limit={info.wrap_limit} />}
          {deks !== undefined && <div class="quiet">{deks.toLocaleString()} DEKs</div>}
        </td>
        <td>
          <Others versions={kek.versions.slice(0, -1)} />
        </td>
        <td class="end">
          <div class="actions">
            {kek.versions.length > 0 && (
              <button type="button" class="small" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
                Versions
              </button>
            )}
            {request && (
              <>
                <button type="button" class="small" aria-label={`Rewrap what is under the KEK of ${name}`} onClick={() => ask({ to: "Rewrap", name: `the KEK of ${name}`, request })}>
                  Rewrap
                </button>
                <button type="button" class="small" aria-label={`Rotate the KEK of ${name}`} onClick={() => ask({ to: "Rotate", name: `the KEK of ${name}`, request })}>
                  Rotate
                </button>
              </>
            )}
          </div>
        </td>
      </tr>
      {open && (
        <tr class="more" id={id}>
          <td colSpan={columns.length}>
            <Versions kek={kek} name={name} info={info} />
          </td>
        </tr>
      )}
    </>
  );
}

function VersionState({ version: { state, imported, released } }: { version: wire.KekVersion }) {
  return (
    <>
      <State of={state} /> {imported && <Badge kind="warn">imported</Badge>} {released && <span class="quiet">nothing is under it</span>}
    </>
  );
}

/** How many versions there are beside the primary, by their state. */
function Others({ versions }: { versions: readonly wire.KekVersion[] }) {
  if (versions.length === 0) return <span class="quiet">none</span>;
  const count = (state: string) => versions.filter((v) => v.state === state).length;
  const told = (["decrypt-only", "destroyed"] as const).map((s) => [count(s), s] as const).filter(([n]) => n > 0);
  return <>{told.map(([n, s]) => `${n} ${s}`).join(", ")}</>;
}

function Versions({ kek, name, info }: { kek: wire.Kek; name: string; info: KeksInfo }) {
  const counted = kek.versions.some((v) => v.thread_deks !== undefined);
  const num = (text: string) => ({ name: text, kind: "num" as const });
  return (
    <Table label={`Versions of the KEK of ${name}`} columns={[num("Version"), "State", "Made", num("Wraps"), ...(counted ? [num("DEKs of threads")] : [])]}>
      {[...kek.versions].reverse().map((v) => (
        <tr key={v.version}>
          <td class="num">{v.version}</td>
          <td>
            <VersionState version={v} />
          </td>
          <td>{v.state === "enabled" ? <Age at={v.created_at} max={info.max_age.kek} /> : <Time at={v.created_at} />}</td>
          <td class="num">{v.wraps.toLocaleString()}</td>
          {counted && <td class="num">{v.thread_deks?.toLocaleString() ?? "–"}</td>}
        </tr>
      ))}
    </Table>
  );
}
