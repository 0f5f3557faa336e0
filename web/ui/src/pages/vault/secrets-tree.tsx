// The secrets of a vault as a tree by path, or those that a search finds.

import type { wire } from "@keyfold/sdk";
import { Badge } from "../../ui/parts.js";

interface Folder {
  folders: Map<string, Folder>;
  secrets: wire.ListedSecret[];
}

interface TreeProps {
  secrets: wire.ListedSecret[];
  /** What the paths must hold; "": all. */
  search: string;
  /** The path that is open. */
  at: string | undefined;
  hrefOf: (path: string) => string;
}

export function Tree({ secrets, search, ...rest }: TreeProps) {
  const wanted = search.trim().toLowerCase();
  const found = secrets.filter((s) => s.path.toLowerCase().includes(wanted));
  if (found.length === 0) return <p class="quiet">No path has “{search.trim()}” in it.</p>;
  return (
    <nav class="tree" aria-label="Secrets by path">
      <Level folder={folderOf(found)} under="" all={wanted !== ""} {...rest} />
    </nav>
  );
}

function folderOf(secrets: wire.ListedSecret[]): Folder {
  const root: Folder = { folders: new Map(), secrets: [] };
  for (const s of [...secrets].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    let at = root;
    for (const name of s.path.split("/").slice(0, -1)) {
      let next = at.folders.get(name);
      if (!next) at.folders.set(name, (next = { folders: new Map(), secrets: [] }));
      at = next;
    }
    at.secrets.push(s);
  }
  return root;
}

function Level({ folder, under, all, ...rest }: Omit<TreeProps, "secrets" | "search"> & { folder: Folder; under: string; all: boolean }) {
  return (
    <ul>
      {[...folder.folders].map(([name, inner]) => (
        <li key={`${name}/`}>
          <details open={all || under === "" || rest.at?.startsWith(`${under}${name}/`)}>
            <summary>{name}/</summary>
            <Level folder={inner} under={`${under}${name}/`} all={all} {...rest} />
          </details>
        </li>
      ))}
      {folder.secrets.map((s) => (
        <li key={s.path}>
          <a href={rest.hrefOf(s.path)} aria-current={s.path === rest.at ? "true" : undefined}>
            <span>{s.path.slice(under.length)}</span>
            <Marks secret={s} sealed={s.cmek_encrypted} />
          </a>
        </li>
      ))}
    </ul>
  );
}

/** The badges of a secret. */
export function Marks({ secret, sealed }: { secret: wire.SecretMetadata; sealed: boolean | undefined }) {
  return (
    <span class="marks">
      {sealed && <Badge kind="sealed">Sealed</Badge>} {isOver(secret) && <Badge kind="warn">Expired</Badge>}
    </span>
  );
}

export function isOver(secret: { expires_at?: string }): boolean {
  return secret.expires_at !== undefined && new Date(secret.expires_at).getTime() <= Date.now();
}
