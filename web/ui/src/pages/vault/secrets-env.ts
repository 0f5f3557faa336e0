// Environment bundles: the text of an .env file, as names and values. What this
// writes, `keyfold run` reads as the same values.

export interface Row {
  name: string;
  value: string;
}

/** What the name of a variable looks like. */
export const namePattern = "[A-Za-z_][A-Za-z0-9_]*";
const validName = new RegExp(`^${namePattern}$`);
const bare = /^[A-Za-z0-9_.,:;/@%+=-]*$/; // means itself without quotes
const escapes: Record<string, string> = { n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", $: "$" };
const escaped: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", $: "\\$" };

/** The text of rows; those without a name and a value are left out. */
export function formatEnv(rows: readonly Row[]): string {
  return rows
    .filter((r) => r.name !== "" || r.value !== "")
    .map((r) => `${r.name}=${bare.test(r.value) ? r.value : `"${r.value.replace(/[\n\r\t"\\$]/g, (c) => escaped[c]!)}"`}\n`)
    .join("");
}

/** The rows of a text; undefined when it holds what a table would lose or change (comments, references, other quotes). */
export function parseEnv(text: string): Row[] | undefined {
  const rows: Row[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const row = parseLine(line);
    if (!row) return undefined;
    rows.push(row);
  }
  return rows;
}

function parseLine(line: string): Row | undefined {
  const at = line.indexOf("=");
  const name = line.slice(0, at);
  const value = line.slice(at + 1).replace(/\r$/, "");
  if (at < 0 || !validName.test(name)) return undefined;
  if (bare.test(value)) return { name, value };
  if (/^'[^']*'$/.test(value)) return { name, value: value.slice(1, -1) };
  if (!/^"(?:[^"\\$]|\\[nrt"\\$])*"$/.test(value)) return undefined;
  return { name, value: value.slice(1, -1).replace(/\\(.)/g, (_, c: string) => escapes[c]!) };
}
