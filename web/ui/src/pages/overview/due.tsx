// What is due, soonest first, with the policy that says so.

import { useState } from "preact/hooks";
import type { Loaded } from "../../load.js";
import { operator } from "../../operator.js";
import { Head, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { inDays } from "../keys/age.js";
import { own, type DueItem, type Found } from "./duework.js";

export function Due({ found }: { found: Loaded<Found> }) {
  return (
    <section class="card" id="due" aria-label="What is due">
      <Head level={2} title="Due">
        <button type="button" class="small" onClick={found.reload} disabled={found.loading}>
          Look again
        </button>
      </Head>
      <Show of={found} what="what is due">
        {({ items, policy, missed }) => (
          <>
            <p class="hint">{inWords(policy)}</p>
            {missed.length > 0 && (
              <div class="notice">
                <p>Not looked at:</p>
                <ul class="plain">
                  {missed.map((m) => (
                    <li key={m}>{m}</li>
                  ))}
                </ul>
              </div>
            )}
            {items.length === 0 ? <Empty title="Nothing is due" /> : <DueTable items={items} />}
          </>
        )}
      </Show>
    </section>
  );
}

function inWords({ kek, dek, cmek }: Found["policy"]): string {
  const told = [
    ...(cmek ? [`a CMEK key after ${inDays(cmek)}`] : []),
    ...(kek ? [`a KEK after ${inDays(kek)}`] : []),
    ...(dek ? [`the DEK of a thread after ${inDays(dek)}`] : []),
  ];
  const keys = told.length > 0 ? `By the operator's policy these are due: ${told.join(", ")}. ` : "";
  const rest = operator.value ? "" : " KEKs and the DEKs of threads are looked at with an admin key.";
  return `${keys}An API key is due after ${own.apiKey} days, and whatever expires is ${own.ahead} days before.${rest}`;
}

const shown = 8;

function DueTable({ items }: { items: DueItem[] }) {
  const [whole, setWhole] = useState(false);
  const list = whole ? items : items.slice(0, shown);
  return (
    <>
      {items.length > shown && (
        <div class="actions">
          <span class="quiet">
            {list.length} of {items.length.toLocaleString()} shown
          </span>
          <button type="button" class="small" aria-expanded={whole} onClick={() => setWhole(!whole)}>
            {whole ? "Show the first" : "Show all"}
          </button>
        </div>
      )}
      <Table label="Due" columns={["What", "Name", "Why", "To do"]}>
        {list.map((d) => (
          <tr key={d.what + d.href + d.name + d.at}>
            <td class="quiet">{d.what}</td>
            <td>
              <a href={d.href}>{d.name}</a>
            </td>
            <td>
              {d.why} <Time at={d.at} />
            </td>
            <td>{d.act}</td>
          </tr>
        ))}
      </Table>
    </>
  );
}
