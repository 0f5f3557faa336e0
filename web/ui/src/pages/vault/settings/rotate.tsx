// Rotating the vault's CMEK key: by the server, which is sent both keys sealed to
// the key process, or here, where no key leaves the browser.

import { KeyfoldError, type ClientRotation, type Result, type wire } from "@keyfold/sdk";
import { useEffect, useRef, useState } from "preact/hooks";
import { keep, locks } from "../../../keys.js";
import { isLost } from "../../../load.js";
import { client, told } from "../../../session.js";
import { Check, Form } from "../../../ui/form.js";
import { Badge, Progress, Table } from "../../../ui/parts.js";
import { toast } from "../../../ui/toast.js";
import { ChooseKey, KeyFile, useKey } from "./choosekey.js";
import { withBytes, type KeyAtHand } from "./keyathand.js";
import { rememberUnused, useGuard } from "./unsaved.js";

/** What is rotated. */
export interface Plan {
  /** Fingerprint of the key that is replaced. */
  from: string;
  /** Of the only key that may replace it; absent: any other. */
  to?: string;
  /** The only way; absent: as the user likes. */
  way?: Way;
  /** The last rotation ended since some versions open with neither key. */
  failed?: boolean;
}
type Way = "server" | "here";

interface RotateProps {
  vault: wire.Vault;
  plan: Plan;
  /** The rotation by the server that is not over. */
  under: wire.RotationJob | undefined;
  /** Blobs of version 2 are what the vault takes already. */
  bound: boolean;
  /** The vault keeps a key check, so it is to keep one of the new key too. */
  check: boolean;
  close: () => void;
  /** Something has changed at the server. */
  changed: () => void;
}

interface Options {
  acceptFailed: boolean;
  all: boolean;
  readLimited: boolean;
  bound: boolean;
}

export function Rotate({ vault, plan, under, bound, check, close, changed }: RotateProps) {
  const [old, setOld] = useKey();
  const [fresh, setFresh] = useKey();
  const [way, setWay] = useState<Way>(plan.way ?? "server");
  const [options, setOptions] = useState<Options>({ acceptFailed: false, all: true, readLimited: false, bound: false });
  const [ended, setEnded] = useState<ClientRotation>();
  const here = useHere(vault, old, fresh, options, changed);
  const [lost, setLost] = useState(false);
  const begun = useRef(0);
  const send = async () => {
    setLost(false);
    begun.current = locks.value;
    try {
      return await (way === "server" ? byServer(vault, old!, fresh!, check, options) : here.run());
    } catch (err) {
      if (way === "server" && isLost(told(err))) setLost(true);
      throw err;
    }
  };
  const done = (answer: wire.RotationJob | ClientRotation) => {
    rememberUnused(undefined);
    if (begun.current === locks.value) for (const { key } of [old!, fresh!]) keep(key); // or they were locked meanwhile
    changed();
    if ("kept" in answer) setEnded(answer);
    else close();
    toast("kept" in answer ? "The rotation has ended" : "The rotation has begun");
  };
  useEffect(() => {
    if (lost) changed(); // it may have begun
  }, [lost]);
  useEffect(() => {
    if (lost && under && under.old_fingerprint === old?.key.fingerprint && under.new_fingerprint === fresh?.key.fingerprint) done(under);
  }, [lost, under]);
  const left = () => {
    here.stop();
    rememberUnused(undefined);
    close();
  };
  if (ended) return <Ended rotation={ended} close={close} />;
  const ready = old !== undefined && fresh?.saved === true && old.key.fingerprint !== fresh.key.fingerprint;
  return (
    <Form<wire.RotationJob | ClientRotation> submit={plan.to ? "Go on" : "Rotate"} send={send} done={done} cancel={left} disabled={!ready}>
      <fieldset class="bare" disabled={here.running}>
        <KeyFile label="Key file of the old key" wanted={plan.from} chosen={old} onChosen={setOld} />
        {plan.to ? <KeyFile label="Key file of the new key" wanted={plan.to} chosen={fresh} onChosen={setFresh} /> : <ChooseKey vault={vault} chosen={fresh} onChosen={setFresh} />}
        {old && fresh && old.key.fingerprint === fresh.key.fingerprint && <p class="notice">These are two files of one key. Choose another new key.</p>}
        {!plan.way && <Ways way={way} onWay={setWay} />}
        {way === "here" ? <HereOptions options={options} onOptions={setOptions} bound={bound} /> : plan.failed && <Accept options={options} onOptions={setOptions} />}
      </fieldset>
      {here.running && <Progress done={here.done} of={here.total} label="Re-encrypted versions" />}
      {here.running && <p class="hint">Keep this page open. Cancel ends it between two versions; the same two key files take it up again.</p>}
    </Form>
  );
}

function Ways({ way, onWay }: { way: Way; onWay: (way: Way) => void }) {
  return (
    <fieldset class="choice">
      <legend>Who re-encrypts</legend>
      <label class="check">
        <input type="radio" name="way" checked={way === "server"} onChange={() => onWay("server")} />
        <span>
          The server: every stored version, also when this page is closed.
          <span class="hint"> Both keys go to the key process, sealed by HPKE to a one-time key of it, and are in its memory while the rotation runs.</span>
        </span>
      </label>
      <label class="check">
        <input type="radio" name="way" checked={way === "here"} onChange={() => onWay("here")} />
        <span>
          This browser: no key is sent.
          <span class="hint"> Versions are read, opened, sealed anew here and put back. Disabled, expired and deleted ones stay under the old key.</span>
        </span>
      </label>
    </fieldset>
  );
}

interface OptionsProps {
  options: Options;
  onOptions: (options: Options) => void;
}

function HereOptions({ options, onOptions, bound }: OptionsProps & { bound: boolean }) {
  const set = (change: Partial<Options>) => onOptions({ ...options, ...change });
  return (
    <fieldset class="choice">
      <legend>Options</legend>
      <Check label="Older versions too; otherwise the newest of each secret" checked={options.all} onChecked={(all) => set({ all })} />
      <Check label="Versions with a limit of reads too; each costs one read, and one with its last read left is not touched" checked={options.readLimited} onChecked={(readLimited) => set({ readLimited })} />
      {!bound && <Check label="Change to bound blobs (version 2); other published clients refuse them" checked={options.bound} onChecked={(b) => set({ bound: b })} />}
    </fieldset>
  );
}

function Accept({ options, onOptions }: OptionsProps) {
  return (
    <fieldset class="choice">
      <legend>Options</legend>
      <Check label="Complete in spite of versions that open with neither key; they stay under the old key" checked={options.acceptFailed} onChecked={(acceptFailed) => onOptions({ ...options, acceptFailed })} />
    </fieldset>
  );
}

function byServer(vault: wire.Vault, old: KeyAtHand, fresh: KeyAtHand, keyCheck: boolean, { acceptFailed }: Options): Promise<Result<wire.RotationJob>> {
  return withBytes(old, fresh, (from, to) => client.vault.rotateCmek(vault.id, from, to, fresh.key.fingerprint, { acceptFailed, keyCheck }));
}

/** A rotation in this page, which ends when the page is left. */
function useHere(vault: wire.Vault, old: KeyAtHand | undefined, fresh: KeyAtHand | undefined, options: Options, changed: () => void) {
  const [state, setState] = useState({ running: false, done: 0, total: 0 });
  const abort = useRef<AbortController>(undefined);
  useGuard(state.running, "The rotation in this page is not over. If you leave now, it stops; the same two key files take it up again. Leave?");
  useEffect(() => () => abort.current?.abort(), []);
  const run = async () => {
    const { signal } = (abort.current = new AbortController());
    setState({ running: true, done: 0, total: 0 });
    try {
      return await client.vault.rotateCmekHere(vault.id, old!.key, fresh!.key, {
        all: options.all,
        readLimited: options.readLimited,
        ...(options.bound ? { bound: true } : {}),
        signal,
        onProgress: (done, total) => setState({ running: true, done, total }),
      });
    } catch (err) {
      throw signal.aborted ? new KeyfoldError("The rotation was stopped. The same two key files take it up again") : err;
    } finally {
      setState((s) => ({ ...s, running: false }));
      if (signal.aborted) changed();
    }
  };
  return { ...state, run, stop: () => abort.current?.abort() };
}

const reasons: Record<ClientRotation["kept"][number]["why"], string> = {
  older: "not the newest of its secret",
  read_limited: "has a limit of reads",
  failed: "does not open with the old key, or is not to be had",
  other_key: "is under another key by now",
  disabled: "disabled; nobody can read it",
  deleted: "deleted; nobody can read it",
  expired: "expired; nobody can read it",
  read_out: "read as often as it may be; nobody can read it",
};

/** What a rotation in this page has done, and what it left. */
function Ended({ rotation: { reencrypted, kept }, close }: { rotation: ClientRotation; close: () => void }) {
  return (
    <div class="stack" role="status">
      <p>
        {reencrypted === 1 ? "1 version is" : `${reencrypted.toLocaleString()} versions are`} under the new key now. {kept.length > 0 && `${kept.length.toLocaleString()} stayed as they were:`}
      </p>
      {kept.length > 0 && (
        <Table label="Versions that stayed as they were" columns={["Secret", "Version", "Why"]}>
          {kept.slice(0, 100).map((k) => (
            <tr key={`${k.version} ${k.path}`}>
              <td>
                <code>{k.path}</code>
              </td>
              <td>{k.version}</td>
              <td>
                {k.why === "failed" && <Badge kind="bad">failed</Badge>} {reasons[k.why]}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {kept.length > 100 && <p class="hint">And {(kept.length - 100).toLocaleString()} more.</p>}
      <div class="actions">
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
    </div>
  );
}
