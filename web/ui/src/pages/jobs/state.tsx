// How a job stands, in words and as a bar.

import { Badge, Progress } from "../../ui/parts.js";

const kinds = { running: "sealed", interrupted: "warn", completed: "good", failed: "bad", cancelled: "plain" } as const;

export function JobBadge({ status }: { status: string }) {
  return <Badge kind={kinds[status as keyof typeof kinds] ?? "plain"}>{status}</Badge>;
}

/** Whether a job is not over. */
export function isUnderWay({ status }: { status: string }): boolean {
  return status === "running" || status === "interrupted";
}

const enough = 3_000; // ms, before which nothing is said of the rest
const steps = [["hour", 3_600_000], ["minute", 60_000], ["second", 1_000]] as const;

/** How long the rest takes when it goes on as it went since then. */
function timeLeft(since: string | undefined, done: number, of: number): string | undefined {
  const took = Date.now() - Date.parse(since ?? "");
  if (!(took > enough) || done === 0 || done >= of) return undefined;
  const left = (took / done) * (of - done);
  const [unit, size] = steps.find(([, ms]) => left >= ms) ?? steps[2];
  const n = Math.max(1, Math.round(left / size));
  return `about ${n} ${unit}${n === 1 ? "" : "s"} left`;
}

export interface JobProgressProps {
  status: string;
  done: number;
  of: number;
  label: string;
  /** When it began. */
  since?: string | undefined;
}

/** The bar of a job that goes on; of one that has ended, the count alone. */
export function JobProgress({ status, done, of, label, since }: JobProgressProps) {
  if (status === "running" && of === 0) return <>Counting</>;
  if (status === "running" || status === "interrupted") return <Progress done={done} of={Math.max(done, of)} label={label} left={status === "running" ? timeLeft(since, done, of) : undefined} />;
  return status === "completed" || of <= done ? <>{done.toLocaleString()}</> : <>{`${done.toLocaleString()} of ${of.toLocaleString()}`}</>;
}

const names: Record<string, string> = {
  "vault-rewrap": "Rewrap of vaults",
  "thread-rewrap": "Rewrap of the threads' DEKs",
  "server-rewrap": "Rewrap of the server's own secrets",
  "thread-dek": "New DEK of a thread",
  "thread-dek-all": "New DEKs of all threads",
  "thread-retention": "Purge of threads",
  "encrypt-existing": "Encryption of threads in clear",
  "cmek-rotation": "CMEK rotation",
};

/** What a kind of job is called; a kind that is not known goes by its own name. */
export function jobName(kind: string): string {
  return names[kind] ?? kind;
}
