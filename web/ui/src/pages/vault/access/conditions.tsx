// The conditions of a policy: from where, and in which hours.

import type { wire } from "@keyfold/sdk";
import { Area, Check, Field } from "../../../ui/form.js";

const week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;

/** Conditions as fields hold them. */
export interface Limits {
  /** Addresses and networks, one per line. */
  from: string;
  hours: boolean;
  after: string;
  before: string;
  timezone: string;
  days: ReadonlySet<string>;
  /** Kept as it is: this form does not change it. */
  environments: string[] | undefined;
}

export function limitsOf(conditions: wire.PolicyConditions | undefined): Limits {
  const hours = conditions?.time_window;
  return {
    from: conditions?.ip_allowlist?.join("\n") ?? "",
    hours: hours !== undefined,
    after: hours ? (hours.after ?? "") : "08:00",
    before: hours ? (hours.before ?? "") : "18:00",
    timezone: hours?.timezone ?? (hours ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone),
    days: new Set(hours?.weekdays?.map((d) => d.toLowerCase().slice(0, 3)) ?? week),
    environments: conditions?.environment_in,
  };
}

/** What the server takes; {} when there are none. */
export function conditionsOf(l: Limits): wire.PolicyConditions {
  const out: wire.PolicyConditions = {};
  const from = l.from.split("\n").map((s) => s.trim()).filter((s) => s !== "");
  if (from.length > 0) out.ip_allowlist = from;
  if (l.hours) out.time_window = windowOf(l);
  if (l.environments) out.environment_in = l.environments;
  return out;
}

function windowOf(l: Limits): wire.TimeWindow {
  const out: wire.TimeWindow = { timezone: l.timezone };
  if (l.after !== "") out.after = l.after;
  if (l.before !== "") out.before = l.before;
  if (l.days.size < week.length) out.weekdays = week.filter((d) => l.days.has(d));
  return out;
}

export function Conditions({ limits: l, onLimits }: { limits: Limits; onLimits: (limits: Limits) => void }) {
  const set = (change: Partial<Limits>) => onLimits({ ...l, ...change });
  const toggle = (day: string, on: boolean) => set({ days: new Set(week.filter((d) => (d === day ? on : l.days.has(d)))) });
  return (
    <fieldset class="box">
      <legend>Conditions</legend>
      <Area label="Only from these addresses" rows={2} mono value={l.from} onValue={(from) => set({ from })} placeholder={"192.0.2.7\n10.0.0.0/8"} hint="Addresses or networks, one per line. Empty: from anywhere." />
      <Check label="Only in these hours" checked={l.hours} onChecked={(hours) => set({ hours })} />
      {l.hours && (
        <>
          <div class="pair">
            <Field label="From" value={l.after} onValue={(after) => set({ after })} pattern="([01][0-9]|2[0-3]):[0-5][0-9]" placeholder="08:00" hint="HH:MM" />
            <Field label="To" value={l.before} onValue={(before) => set({ before })} pattern="([01][0-9]|2[0-3]):[0-5][0-9]" placeholder="18:00" hint="HH:MM; earlier than From: over midnight" />
          </div>
          <Field label="Time zone" required value={l.timezone} onValue={(timezone) => set({ timezone })} hint="Such as Europe/Berlin or UTC" />
          <div class="choices row" role="group" aria-label="Weekdays">
            {week.map((d) => (
              <Check key={d} label={d} checked={l.days.has(d)} onChecked={(on) => toggle(d, on)} />
            ))}
          </div>
        </>
      )}
      {l.environments && <p class="hint">It also asks for the environment {l.environments.join(", ")}, which no caller has: an allow never counts, a deny always does.</p>}
    </fieldset>
  );
}
