// The little that the tests need in Node and in a browser alike.

/** What the tests are run with. */
export interface World {
  /** cmek/testdata/vectors.json */
  vectors: Vectors;
  /** Of a server that is running: its dev.json. */
  server: Server;
}

export interface Server {
  url: string;
  api_key: string;
  admin_key: string;
  email: string;
  password: string;
  backend_key: string;
  frontend_key: string;
  signing_key: string;
}

export type Vectors = Record<string, Record<string, unknown>[]>;

export interface Case {
  name: string;
  run: (world: World) => Promise<void>;
}

export function equal<T>(got: T, want: T, what = "value"): void {
  if (!Object.is(got, want)) throw new Error(`${what}: got ${show(got)}, want ${show(want)}`);
}

export function same(got: unknown, want: unknown, what = "value"): void {
  if (show(got) !== show(want)) throw new Error(`${what}: got ${show(got)}, want ${show(want)}`);
}

export function ok(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

/** The error that the promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code?: string; type?: string; status?: number }> {
  try {
    await promise;
  } catch (err) {
    return err as Error;
  }
  throw new Error("it did not fail");
}

/** The data of a result that is a success. */
export function data<T>(r: { data: T; error: null } | { data: null; error: { message: string; code?: string } }): T {
  if (r.error) throw new Error(`the call failed: ${r.error.message} (${r.error.code})`);
  return r.data;
}

/** The error of a result that is none. */
export function refused(r: { error: { type: string; message: string; code?: string } | null }): { type: string; message: string; code?: string } {
  if (!r.error) throw new Error("the call succeeded");
  return r.error;
}

export function show(v: unknown): string {
  return v instanceof Uint8Array ? `bytes ${hex(v)}` : (JSON.stringify(v) ?? String(v));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

export function unhex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (d) => parseInt(d, 16));
}

export const utf8 = (text: string) => new TextEncoder().encode(text);
export const text = (bytes: Uint8Array) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
