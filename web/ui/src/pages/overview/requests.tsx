// Requests per second, their errors and how long they took, for an operator: from
// the server's counters, which are read again and again while the page is open.
// The readings are in the page's memory alone.

import { useEffect, useRef, useState } from "preact/hooks";
import type { KeyfoldClient } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Chart, type Moment } from "../../ui/chart.js";
import { Head, Table } from "../../ui/parts.js";
import { Loading, Problem } from "../../ui/state.js";
import { between, counts, readingOf, type Between, type Reading } from "./metrics.js";

const every = 5_000;
const kept = 36; // three minutes
const routesShown = 6;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

interface Passed extends Between {
  label: string;
}

interface Seen {
  first: Reading;
  last: Reading;
  passed: Passed[];
}

/** What the readings so far say; undefined before the first. */
function useReadings(client: KeyfoldClient) {
  const metrics = useLoad(async () => {
    const got = await client.admin.metrics();
    return got.error ? got : { ...got, data: readingOf(got.data, Date.now()) };
  }, [client]);
  const [seen, setSeen] = useState<Seen>();
  const last = useRef<Reading>(undefined);
  useEvery(every, metrics.reload);
  useEffect(() => {
    const reading = metrics.data;
    if (!reading || reading === last.current) return;
    last.current = reading;
    setSeen((s) => {
      if (!s) return { first: reading, last: reading, passed: [] };
      return { first: s.first, last: reading, passed: [...s.passed, { ...between(s.last, reading), label: clock.format(reading.at) }].slice(-kept) };
    });
  }, [metrics.data]);
  return { seen, error: metrics.error, reload: metrics.reload };
}

/** The moments of a chart, with empty ones before the first reading. */
function moments(passed: readonly Passed[], values: (p: Passed) => number[]): Moment[] {
  const first = Date.now() - passed.length * every;
  const blank = Array.from({ length: kept - passed.length }, (_, i) => ({ label: clock.format(first - (kept - passed.length - i) * every), values: [0] }));
  return [...blank, ...passed.map((p) => ({ label: p.label, values: values(p) }))];
}

const perSecond = (n: number, { seconds }: Between) => (seconds > 0 ? n / seconds : 0);

export function Requests({ client }: { client: KeyfoldClient }) {
  const { seen, error, reload } = useReadings(client);
  return (
    <section class="card" aria-label="Requests">
      <Head level={2} title="Requests" />
      <Problem error={error} retry={reload} />
      {!seen && !error && <Loading what="the counters" />}
      {seen && !counts(seen.last) && <p class="quiet">This server does not count its requests. One of a newer version does, at /admin/debug/prometheus.</p>}
      {seen && counts(seen.last) && <Told seen={seen} />}
    </section>
  );
}

function Told({ seen: { first, last, passed } }: { seen: Seen }) {
  if (passed.length === 0) return <p class="quiet">The counters are read every {every / 1000} seconds; with the second reading there is something to draw.</p>;
  return (
    <>
      <Now of={passed.at(-1)!} />
      <div class="grid">
        <Chart
          title="Requests per second"
          unit="answers, by status"
          series={[
            { name: "done", kind: "plain" },
            { name: "refused (4xx)", kind: "warn" },
            { name: "failed (5xx)", kind: "bad" },
          ]}
          moments={moments(passed, (p) => [p.requests - p.refused - p.failed, p.refused, p.failed].map((n) => perSecond(n, p)))}
        />
        <Chart title="Time to answer" unit="milliseconds, on average" series={[{ name: "milliseconds", kind: "plain" }]} moments={moments(passed, (p) => [(p.mean ?? 0) * 1000])} />
      </div>
      <Busiest all={between(first, last)} />
    </>
  );
}

const short = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });

function Now({ of }: { of: Passed }) {
  const errors = of.requests > 0 ? (100 * (of.refused + of.failed)) / of.requests : 0;
  return (
    <dl class="numbers">
      <div>
        <dt>requests per second</dt>
        <dd>{short.format(perSecond(of.requests, of))}</dd>
      </div>
      <div>
        <dt>refused or failed</dt>
        <dd>{short.format(errors)}%</dd>
      </div>
      <div>
        <dt>to answer, on average</dt>
        <dd>{of.mean === undefined ? "–" : `${short.format(of.mean * 1000)} ms`}</dd>
      </div>
    </dl>
  );
}

function Busiest({ all: { routes, seconds } }: { all: Between }) {
  if (routes.length === 0) return <p class="quiet">No other requests came since this page was opened.</p>;
  const num = (name: string) => ({ name, kind: "num" as const });
  return (
    <Table label={`Busiest routes, in the ${Math.round(seconds)} seconds since this page was opened`} columns={["Busiest routes since this page was opened", num("Requests"), num("Refused"), num("Failed")]}>
      {routes.slice(0, routesShown).map((r) => (
        <tr key={r.route}>
          <td>
            <code>{r.route}</code>
          </td>
          {[r.requests, r.refused, r.failed].map((n, i) => (
            <td key={i} class="num">
              {n.toLocaleString()}
            </td>
          ))}
        </tr>
      ))}
    </Table>
  );
}
