// Bodies of messages as text. They are JSON of any kind, written by anybody, and
// are never shown as anything but text.

/** How a body is read: a text as it is, all else as indented JSON. */
export function textOf(body: unknown): string {
  return typeof body === "string" ? body : (JSON.stringify(body, null, 2) ?? "");
}

/** What was typed as a body. Throws a SyntaxError when it is to be JSON and is not. */
export function bodyOf(text: string, json: boolean): unknown {
  return json ? (JSON.parse(text) as unknown) : text;
}

/** Why a text cannot be sent; undefined: it can. */
export function bodyProblem(text: string, json: boolean): string | undefined {
  if (text.trim() === "") return "Write something";
  if (!json) return undefined;
  let rounded: number | undefined;
  try {
    const body: unknown = JSON.parse(text, (_, value: unknown) => {
      if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER) rounded = value;
      return value;
    });
    if (body === null) return "null is no message";
  } catch {
    return "This is not JSON";
  }
  return rounded === undefined ? undefined : `A browser does not keep numbers as large as ${rounded} to the digit; write it as a text, in quotes`;
}
