// Choosing a CMEK key: one that is made here and saved as a file, or a key file that there is.

import { KeyfoldError, type ErrorInfo, type wire } from "@keyfold/sdk";
import { useEffect, useId, useLayoutEffect, useState } from "preact/hooks";
import { locks } from "../../../keys.js";
import { Check } from "../../../ui/form.js";
import { download, Id } from "../../../ui/parts.js";
import { Problem } from "../../../ui/state.js";
import { makeKey, readKey, short, type KeyAtHand } from "./keyathand.js";
import { rememberUnused, useGuard } from "./unsaved.js";

interface ChooseProps {
  vault: wire.Vault;
  chosen: KeyAtHand | undefined;
  onChosen: (key: KeyAtHand | undefined) => void;
}

/** A new key or a key file, as the user likes. */
export function ChooseKey({ vault, chosen, onChosen }: ChooseProps) {
  const [own, setOwn] = useState(false);
  const name = useId();
  const way = (value: boolean) => {
    setOwn(value);
    onChosen(undefined);
  };
  return (
    <fieldset class="choice">
      <legend>New key</legend>
      <label class="check">
        <input type="radio" name={name} checked={!own} onChange={() => way(false)} />
        <span>Make a new key in this browser</span>
      </label>
      <label class="check">
        <input type="radio" name={name} checked={own} onChange={() => way(true)} />
        <span>Use a key file that I have</span>
      </label>
      {own ? <KeyFile label="Key file" chosen={chosen} onChosen={onChosen} /> : <NewKey vault={vault} chosen={chosen} onChosen={onChosen} />}
    </fieldset>
  );
}

/** Makes a key, has its file saved, and asks whether it is. */
function NewKey({ vault, chosen, onChosen }: ChooseProps) {
  const [downloaded, setDownloaded] = useState(false);
  useGuard(chosen !== undefined && !chosen.saved, "The new key is not saved. If you leave now, it is gone. Leave?");
  useEffect(() => {
    if (chosen === undefined) setDownloaded(false);
  }, [chosen]);
  const save = (key: KeyAtHand) => {
    download(key.file.name, key.file);
    setDownloaded(true);
  };
  const make = async () => {
    const key = await makeKey(vault);
    rememberUnused({ vault: vault.id, fingerprint: key.key.fingerprint, file: key.file.name });
    onChosen(key);
    save(key);
  };
  if (!chosen) {
    return (
      <div class="stack">
        <p class="hint">256 random bits, made here by WebCrypto. The key is saved as a file on this computer; it is not sent.</p>
        <button type="button" class="primary" onClick={() => void make()}>
          Make a key and download its file
        </button>
      </div>
    );
  }
  return (
    <div class="stack">
      <dl class="facts">
        <dt>Key file</dt>
        <dd>
          <code>{chosen.file.name}</code>
        </dd>
        <dt>Fingerprint</dt>
        <dd>
          <Id value={chosen.key.fingerprint} what="the fingerprint" />
        </dd>
      </dl>
      <div class="actions">
        <button type="button" onClick={() => save(chosen)}>
          Download it again
        </button>
      </div>
      <p class="notice">Keep the file where you will find it, and a copy elsewhere. Nobody can bring the key back: without it, everything that it seals is lost.</p>
      {downloaded && <Check label="I have saved it" checked={chosen.saved} onChecked={(saved) => onChosen({ ...chosen, saved })} />}
    </div>
  );
}

interface FileProps {
  label: string;
  /** The fingerprint of the only key that will do. */
  wanted?: string | undefined;
  chosen: KeyAtHand | undefined;
  onChosen: (key: KeyAtHand | undefined) => void;
}

function Named({ what, fingerprint }: { what: string; fingerprint: string }) {
  return (
    <>
      {what} <code title={fingerprint}>{short(fingerprint)}</code>
    </>
  );
}

/** A key that is forgotten with all others, unless it was made here and is not saved. */
export function useKey() {
  const [key, setKey] = useState<KeyAtHand>();
  // At once: a click that says that a new key is saved may come right after the lock.
  useLayoutEffect(() => setKey((k) => (k?.saved ? undefined : k)), [locks.value]);
  return [key, setKey] as const;
}

/** A key file from the user's disk. It is read here. */
export function KeyFile(props: FileProps) {
  return <Picker key={locks.value} {...props} />;
}

function Picker({ label, wanted, chosen, onChosen }: FileProps) {
  const [error, setError] = useState<ErrorInfo>();
  const id = useId();
  const pick = async (file: File | undefined) => {
    setError(undefined);
    onChosen(undefined);
    if (!file) return;
    try {
      onChosen(await readKey(file, wanted));
    } catch (err) {
      if (!(err instanceof KeyfoldError)) throw err;
      setError(err.info());
    }
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="file" accept=".key,text/plain,application/octet-stream" aria-describedby={`${id}-hint`} onChange={(e) => void pick(e.currentTarget.files?.[0])} />
      <div class="hint" id={`${id}-hint`}>
        {chosen ? <Named what="Holds the key" fingerprint={chosen.key.fingerprint} /> : wanted ? <Named what="Of the key" fingerprint={wanted} /> : "It is read in this browser."}
      </div>
      <Problem error={error} />
    </div>
  );
}
