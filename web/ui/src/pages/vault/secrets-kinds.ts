// What the types of secrets are called, and how each is written and shown.

import { METADATA_ENCODING, type wire } from "@keyfold/sdk";

/** How a value is edited: one line, text, PEM, names and values, or a file. */
export type Kind = "line" | "text" | "pem" | "env" | "file";

const types: Record<wire.SecretType, { name: string; kind: Kind; ending: string }> = {
  generic: { name: "Text", kind: "text", ending: ".txt" },
  password: { name: "Password", kind: "line", ending: ".txt" },
  api_key: { name: "API key", kind: "line", ending: ".txt" },
  private_key: { name: "Private key", kind: "pem", ending: ".pem" },
  certificate: { name: "Certificate", kind: "pem", ending: ".pem" },
  ssh_key: { name: "SSH key", kind: "pem", ending: "" },
  env_bundle: { name: "Environment bundle", kind: "env", ending: ".env" },
  env: { name: "Environment variables", kind: "env", ending: ".env" },
  file: { name: "File", kind: "file", ending: "" },
  note: { name: "Note", kind: "text", ending: ".txt" },
};

/** Value and label of each type that a new version may have; "env" is the same as "env_bundle", and offered to who has it. */
export const typeOptions = (now: wire.SecretType | undefined) => Object.entries(types).filter(([value]) => value !== "env" || now === "env").map(([value, { name }]) => [value, name] as const);

export const nameOf = (type: wire.SecretType): string => types[type]?.name ?? type;
export const kindOf = (type: wire.SecretType): Kind => types[type]?.kind ?? "text";

/** The metadata member that keeps the name of an uploaded file. */
export const fileNameMember = "filename";

/** The name to download a secret's value by. */
export function fileNameOf(secret: { path: string; type: wire.SecretType; metadata?: Record<string, unknown> }): string {
  const kept = secret.metadata?.[fileNameMember];
  if (secret.type === "file" && typeof kept === "string" && kept !== "") return kept;
  return secret.path.slice(secret.path.lastIndexOf("/") + 1) + (types[secret.type]?.ending ?? "");
}

/** Metadata without the member that is the client's own. */
export function ownMetadata(metadata: Record<string, unknown> | undefined): Record<string, unknown> {
  return Object.fromEntries(Object.entries(metadata ?? {}).filter(([name]) => name !== METADATA_ENCODING));
}

/** Bytes as text, where they are UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
