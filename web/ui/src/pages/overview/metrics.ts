// Reading of the Prometheus text format, and what two readings of the server's
// counters say of the time between them.

export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

const escapes: Record<string, string> = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };

/** The samples of a text. A line that is none is passed over. */
export function parse(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const [, name, inside = "", value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    if (name === undefined) continue;
    const labels: Record<string, string> = {};
    for (const [, label, text] of inside.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) labels[label!] = text!.replace(/\\[\\"n]/g, (e) => escapes[e]!);
    samples.push({ name, labels, value: Number(value) });
  }
  return samples;
}

const requestCount = "keyfold_http_requests_total";
const durations = "keyfold_http_request_duration_seconds";

/** The readings themselves are not counted. */
const itself = "/admin/debug/prometheus";

/** One reading: when, and each counter by its name and labels. */
export interface Reading {
  at: number;
  counters: ReadonlyMap<string, Sample>;
}

export function readingOf(text: string, at: number): Reading {
  const of = parse(text).filter((s) => (s.name === requestCount || s.name.startsWith(durations)) && !s.labels["route"]?.endsWith(itself));
  return { at, counters: new Map(of.map((s) => [JSON.stringify([s.name, s.labels]), s])) };
}

/** How many requests of a route there were, how many of them were refused or failed, and how long all took. */
export interface OfRoute {
  route: string;
  requests: number;
  refused: number;
  failed: number;
}

/** What happened between two readings. */
export interface Between {
  seconds: number;
  requests: number;
  /** Answered with 4xx. */
  refused: number;
  /** Answered with 5xx. */
  failed: number;
  /** Seconds that an answer took, on average; undefined: there was none. */
  mean: number | undefined;
  routes: OfRoute[];
}

/** A counter that is less than before began anew, with the server that counts it. */
function grown(before: Reading, after: Reading): [Sample, number][] {
  return [...after.counters].map(([key, s]) => {
    const old = before.counters.get(key)?.value ?? 0;
    return [s, s.value >= old ? s.value - old : s.value];
  });
}

export function between(before: Reading, after: Reading): Between {
  const all = grown(before, after).filter(([, n]) => n > 0);
  const routes = new Map<string, OfRoute>();
  let [sum, count] = [0, 0];
  for (const [{ name, labels }, n] of all) {
    if (name === `${durations}_sum`) sum += n;
    if (name === `${durations}_count`) count += n;
    if (name !== requestCount) continue;
    const route = labels["route"] === "none" ? "no such route" : [labels["method"], labels["route"]].filter(Boolean).join(" ");
    const of = routes.get(route) ?? { route, requests: 0, refused: 0, failed: 0 };
    of.requests += n;
    if (labels["code"]?.startsWith("4")) of.refused += n;
    if (labels["code"]?.startsWith("5")) of.failed += n;
    routes.set(route, of);
  }
  const list = [...routes.values()].sort((a, b) => b.requests - a.requests);
  const total = (of: "requests" | "refused" | "failed") => list.reduce((n, r) => n + r[of], 0);
  return { seconds: (after.at - before.at) / 1000, requests: total("requests"), refused: total("refused"), failed: total("failed"), mean: count > 0 ? sum / count : undefined, routes: list };
}

/** Whether the server counts its requests at all. */
export function counts(reading: Reading): boolean {
  return [...reading.counters.values()].some((s) => s.name === requestCount);
}
