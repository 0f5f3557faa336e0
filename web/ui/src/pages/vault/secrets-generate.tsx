// Making the value of a secret at random, in this browser.

import { useState } from "preact/hooks";
import { Check, Choice, Field } from "../../ui/form.js";
import { passwordBits, passwordLength, randomKey, randomPassword } from "./secrets-random.js";

const kinds = [
  ["password", "Password"],
  ["base64", "Key, in base64"],
  ["hex", "Key, in hex"],
  ["uuid", "UUID"],
] as const;
type Kind = (typeof kinds)[number][0];

const sizes = [
  ["16", "16 bytes"],
  ["32", "32 bytes"],
  ["64", "64 bytes"],
] as const;

export function Generate({ take }: { take: (value: string) => void }) {
  const [kind, setKind] = useState<Kind>("password");
  const [length, setLength] = useState("32");
  const [marks, setMarks] = useState(false);
  const [size, setSize] = useState("32");
  const [made, setMade] = useState<string>();
  const n = Number(length);
  const possible = kind !== "password" || (Number.isInteger(n) && n >= passwordLength.min && n <= passwordLength.max);
  const make = () => {
    const value = kind === "password" ? randomPassword(n, marks) : kind === "uuid" ? crypto.randomUUID() : randomKey(Number(size), kind);
    take(value);
    setMade(`A value of ${value.length} characters is in the field above.`);
  };
  return (
    <details>
      <summary>Make a value at random</summary>
      <div class="stack made">
        <div class="two">
          <Choice label="Kind" value={kind} onValue={(k) => setKind(k as Kind)} options={kinds} />
          {kind === "password" && <Field label="Length" type="number" min={passwordLength.min} max={passwordLength.max} hint={possible ? `About ${passwordBits(n, marks)} bits` : `${passwordLength.min} to ${passwordLength.max}`} value={length} onValue={setLength} />}
          {(kind === "base64" || kind === "hex") && <Choice label="Size" value={size} onValue={setSize} options={sizes} />}
        </div>
        {kind === "password" && <Check label="With marks, such as ! and %" checked={marks} onChecked={setMarks} />}
        <div class="actions">
          <button type="button" disabled={!possible} onClick={make}>
            Make it
          </button>
          <span class="hint" role="status">
            {made ?? "Made here, in this browser"}
          </span>
        </div>
      </div>
    </details>
  );
}
