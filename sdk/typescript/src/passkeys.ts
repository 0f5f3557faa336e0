// Passkeys (WebAuthn): keys in a user's device, which sign in without a password.
// The private key never leaves the device; the server checks what it signs.

import { fromBase64, toBase64 } from "./bytes.js";
import { KeyfoldError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import { result, type Answer, type Result } from "./result.js";
import type * as wire from "./types.js";

/** What of navigator.credentials passkeys need. */
export type Authenticators = Pick<CredentialsContainer, "create" | "get">;

export interface PasskeyOptions {
  /** In place of navigator.credentials. */
  authenticators?: Authenticators;
  /** Ends the wait for the user. */
  signal?: AbortSignal;
}

/** Signs in by a call that answers a token. */
export type SignIn = (path: string, body: unknown) => Promise<Answer<wire.Token>>;

/** client.auth.passkeys: in a page of the server's own origin. */
export class Passkeys {
  readonly #http: Http;
  readonly #signIn: SignIn;

  constructor(http: Http, signIn: SignIn) {
    this.#http = http;
    this.#signIn = signIn;
  }

  /** The user's passkeys, oldest first. */
  list(): Promise<Result<wire.Passkeys>> {
    return this.#http.request("GET", "/v1/auth/passkeys");
  }

  /** Has the user make a passkey in a device of his, and registers it under the name. */
  register(name: string, options: PasskeyOptions = {}): Promise<Result<wire.Passkey>> {
    return result(async () => {
      const { create } = authenticators(options);
      const { challenge_id, options: asked } = await this.#http.post<wire.PasskeyChallenge>("/v1/auth/passkeys/register/begin");
      const made = await ofDevice(asked, (publicKey) => create(withSignal({ publicKey: creation(publicKey) }, options)));
      return this.#http.answer("POST", "/v1/auth/passkeys/register/finish", { body: { challenge_id, name, credential: created(made) } });
    });
  }

  /** Signs in with a passkey, which is both factors at once: no code is asked for. */
  signIn(options: PasskeyOptions = {}): Promise<Result<wire.Token>> {
    return result(async () => {
      const { get } = authenticators(options);
      const { challenge_id, options: asked } = await this.#http.post<wire.PasskeyChallenge>("/v1/auth/passkeys/login/begin", undefined, { public: true });
      const signed = await ofDevice(asked, (publicKey) => get(withSignal({ publicKey: assertion(publicKey) }, options)));
      return this.#signIn("/v1/auth/passkeys/login/finish", { challenge_id, credential: asserted(signed) });
    });
  }

  /** Ends a passkey: it signs in no more. */
  delete(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("auth", "passkeys", id)));
  }
}

type Json = Record<string, unknown>;

/** The authenticators of this browser, or those given. */
function authenticators({ authenticators: given }: PasskeyOptions): Authenticators {
  const all = given ?? (globalThis.navigator as Partial<Navigator> | undefined)?.credentials;
  if (!all) throw new KeyfoldError("This browser has no passkeys here; they need a page at https://, or at localhost", { code: "passkey_unsupported" });
  return { create: (o) => all.create(o), get: (o) => all.get(o) };
}

const withSignal = <T extends object>(options: T, { signal }: PasskeyOptions): T => (signal ? { ...options, signal } : options);

/** Asks the user's device by options of the server; what the browser refuses is told in words. */
async function ofDevice(options: Json, ask: (publicKey: Json) => Promise<Credential | null>): Promise<PublicKeyCredential> {
  const publicKey = options["publicKey"] as Json;
  let made: Credential | null;
  try {
    made = await ask(publicKey);
  } catch (err) {
    throw told(err, publicKey);
  }
  if (!made) throw new KeyfoldError("The browser gave no passkey; try again", { code: "passkey_cancelled" });
  return made as PublicKeyCredential;
}

function told(err: unknown, publicKey: Json): unknown {
  const domain = publicKey["rpId"] ?? (publicKey["rp"] as Json | undefined)?.["id"];
  switch (err instanceof Error ? err.name : "") {
    case "NotAllowedError":
    case "AbortError":
      return new KeyfoldError("No passkey was used: it was cancelled, took too long, or this device has none for here; try again", { code: "passkey_cancelled" });
    case "InvalidStateError":
      return new KeyfoldError("This device holds a passkey of yours already; use it to sign in", { code: "passkey_known" });
    case "SecurityError":
      return new KeyfoldError(`Passkeys of this server are for ${String(domain)}, and this page is at another address; open it there`, { code: "passkey_address" });
    case "NotSupportedError":
    case "ConstraintError":
      return new KeyfoldError("This device cannot keep a passkey that asks for your finger, face or PIN; use another one", { code: "passkey_unsupported" });
    default:
      return err;
  }
}

const described = (list: unknown) => ((list ?? []) as (Json & { type: "public-key" })[]).map((d): PublicKeyCredentialDescriptor => ({ ...d, id: bytes(d["id"]) }));

/** Options of the server as browsers take them: binary as bytes. */
function creation(o: Json): PublicKeyCredentialCreationOptions {
  const user = o["user"] as Json;
  const given = { ...o, challenge: bytes(o["challenge"]), user: { ...user, id: bytes(user["id"]) }, excludeCredentials: described(o["excludeCredentials"]) };
  return given as unknown as PublicKeyCredentialCreationOptions;
}

function assertion(o: Json): PublicKeyCredentialRequestOptions {
  return { ...o, challenge: bytes(o["challenge"]), allowCredentials: described(o["allowCredentials"]) } as PublicKeyCredentialRequestOptions;
}

/** A new passkey as the server takes it. By hand, since toJSON is not in every browser. */
function created(c: PublicKeyCredential): Json {
  const r = c.response as AuthenticatorAttestationResponse;
  return { ...common(c), response: { clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject), transports: r.getTransports?.() ?? [] } };
}

function asserted(c: PublicKeyCredential): Json {
  const r = c.response as AuthenticatorAssertionResponse;
  const response: Json = { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature) };
  if (r.userHandle) response["userHandle"] = text(r.userHandle);
  return { ...common(c), response };
}

const common = (c: PublicKeyCredential): Json => ({ id: text(c.rawId), rawId: text(c.rawId), type: c.type });

function bytes(base64url: unknown): Uint8Array<ArrayBuffer> {
  const standard = String(base64url).replaceAll("-", "+").replaceAll("_", "/");
  return new Uint8Array(fromBase64(standard.padEnd(Math.ceil(standard.length / 4) * 4, "=")));
}

const text = (buffer: ArrayBuffer) => toBase64(new Uint8Array(buffer)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
