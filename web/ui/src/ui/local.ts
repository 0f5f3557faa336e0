// Times in fields of the type datetime-local, which are in the user's zone.

/** A time as the field takes it, to the minute; "" when there is none. */
export function toLocal(at: string | undefined): string {
  if (at === undefined) return "";
  const date = new Date(at);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** What the field holds, as the server takes it. */
export function fromLocal(value: string): string {
  return new Date(value).toISOString();
}
