// Who can read the secret at a path, and why.

import { useId, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { canRead, type Person, type Verdict } from "../../../decide.js";
import { patternProblem } from "../../../glob.js";
import { useLoad } from "../../../load.js";
import { client } from "../../../session.js";
import { Badge, Time } from "../../../ui/parts.js";
import { Problem } from "../../../ui/state.js";

interface ReadersProps {
  vault: wire.Vault;
  policies: wire.Policy[];
  people: Person[];
  secrets: wire.SecretMetadata[];
}

const order = { yes: 0, depends: 1, no: 2 } as const;
const words = { yes: "can read", depends: "it depends", no: "cannot read" } as const;
const kinds = { yes: "good", depends: "warn", no: "plain" } as const;

export function Readers({ vault, policies, people, secrets }: ReadersProps) {
  const [path, setPath] = useState("");
  const id = useId();
  const asked = { vault, path, type: secrets.find((s) => s.path === path)?.type, now: new Date() };
  const valid = patternProblem(path) === undefined;
  const verdicts = valid ? people.map((who) => ({ who, verdict: canRead(who, asked, policies) })).sort((a, b) => order[a.verdict.can] - order[b.verdict.can] || a.who.name.localeCompare(b.who.name)) : [];
  return (
    <section class="card" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>Who can read this secret, and why</h2>
      <div class="field">
        <label for={id}>Path</label>
        <input id={id} list={`${id}-paths`} value={path} autocomplete="off" spellcheck={false} placeholder="db/credentials" onInput={(e) => setPath(e.currentTarget.value)} aria-describedby={`${id}-hint`} />
        <datalist id={`${id}-paths`}>
          {secrets.map((s) => (
            <option key={s.id} value={s.path} />
          ))}
        </datalist>
        <p class="hint" id={`${id}-hint`}>
          Of a secret that there is, or of one that will be.
        </p>
      </div>
      {valid && (
        <ul class="verdicts" aria-label={`Who can read ${path}`}>
          {verdicts.map(({ who, verdict }) => (
            <Row key={`${who.kind}:${who.id}`} who={who} verdict={verdict} />
          ))}
        </ul>
      )}
      {valid && <Shares secret={secrets.find((s) => s.path === path)} />}
      <p class="hint">
        Worked out in this page from the policies as they are now; the server decides at each call. API keys and tokens may be limited further. Agents that you may not see are listed only where a policy names them.
        {vault.cmek_enabled && " The vault is sealed: who can read gets a sealed value, and only the key file opens it."}
      </p>
    </section>
  );
}

/** Shares give a secret to others, past all policies. Of those that others have made the caller is not told. */
function Shares({ secret }: { secret: wire.SecretMetadata | undefined }) {
  const shares = useLoad(() => client.shares.listOutbound(), []);
  if (!secret) return null;
  const live = shares.data?.shares.filter((s) => s.secret_id === secret.id && !s.is_expired) ?? [];
  return (
    <div class="stack">
      <p class="notice">Whoever was given a share of this secret reads it as well, past all policies, until the share ends. You see the shares here that you have made; those of others are in the audit trail.</p>
      <Problem error={shares.error} retry={shares.reload} />
      {live.length > 0 && (
        <ul class="plain" aria-label="Your shares of it">
          {live.map((s) => (
            <li key={s.id}>
              {s.recipient_email ?? s.recipient_id ?? recipients[s.recipient_type] ?? s.recipient_type} <span class="quiet">until</span> <Time at={s.expires_at} exact />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

const recipients: Record<string, string> = { anyone_with_link: "anyone with the link", creator: "who created it" };

function Row({ who, verdict }: { who: Person; verdict: Verdict }) {
  const manages = who.role === "owner" || who.role === "admin";
  return (
    <li>
      <span>
        {who.name} <span class="quiet">{who.role ?? who.kind}</span>
      </span>
      <span>
        <Badge kind={kinds[verdict.can]}>{words[verdict.can]}</Badge>
      </span>
      <div>
        {verdict.why}
        {verdict.by.length > 0 && <p class="hint">{verdict.by.map(describe).join("; ")}</p>}
        {manages && verdict.can !== "yes" && <p class="hint">As {who.role === "owner" ? "an owner" : "an admin"} of the org this user can change the policies.</p>}
        {who.kind === "agent" && !who.agent && <p class="hint">You may not see this agent: its scopes and vaults may limit it further.</p>}
      </div>
    </li>
  );
}

function describe(policy: wire.Policy): string {
  return `policy ${policy.secret_path_pattern}, ${policy.effect ?? "allow"} ${policy.permissions.join(", ")}, priority ${policy.priority ?? 0}`;
}
