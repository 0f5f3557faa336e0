// JSON whose integers keep their digits: one that no number holds is a bigint.

const number = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/** The value of a JSON text, as JSON.parse has it, but for integers that a number would change: they are bigints. */
export function parseJson(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  const mark = newMark();
  const kept = markIntegers(text, mark);
  if (kept === text) return JSON.parse(text);
  return JSON.parse(kept, (_, value: unknown) => (typeof value === "string" && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value));
}

/** The text with marked strings in place of the integers that no number holds. */
function markIntegers(text: string, mark: string): string {
  let out = "";
  let copied = 0;
  for (let i = 0; i < text.length; ) {
    if (text[i] === '"') {
      i = behindString(text, i);
      continue;
    }
    number.lastIndex = i;
    const token = number.exec(text)?.[0];
    if (token !== undefined && /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token))) {
      out += `${text.slice(copied, i)}"${mark}${token}"`;
      copied = i + token.length;
    }
    i += token?.length ?? 1;
  }
  return out + text.slice(copied);
}

/** Behind the string that begins at i, or the text's end. */
function behindString(text: string, i: number): number {
  for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
  return i + 1;
}

/** The JSON text of a value, as JSON.stringify has it; bigints are integers. */
export function formatJson(value: unknown, space?: number): string {
  try {
    return JSON.stringify(value, undefined, space);
  } catch {
    return formatBigints(value, space); // which JSON.stringify refuses
  }
}

function formatBigints(value: unknown, space?: number): string {
  const mark = newMark();
  const text = JSON.stringify(value, (_, v: unknown) => (typeof v === "bigint" ? mark + String(v) : v), space);
  return text.replace(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1");
}

/** What no text has by chance or by intent. */
function newMark(): string {
  return `integer ${Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join("")} `;
}
