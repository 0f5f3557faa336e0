// How a job stands, in words and as a bar.

import { Badge, Progress } from "../../ui/parts.js";

const kinds = { running: "sealed", interrupted: "warn", completed: "good", failed: "bad", cancelled: "plain" } as const;

export function JobBadge({ status }: { status: string }) {
  return <Badge kind={kinds[status as keyof typeof kinds] ?? "plain"}>{status}</Badge>;
}

/** The bar of a job that goes on; of one that has ended, the count alone. */
export function JobProgress({ status, done, of, label }: { status: string; done: number; of: number; label: string }) {
  if (status === "running" && of === 0) return <>Counting</>;
  if (status === "running" || status === "interrupted") return <Progress done={done} of={Math.max(done, of)} label={label} />;
  return <>{done.toLocaleString()}</>;
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
