// Passkeys: what a device is asked, what the server is told, and what is said when it fails.

import { createClient, type Authenticators, type ClientOptions } from "@keyfold/sdk";
import { data, equal, hex, ok, refused, same, utf8, type Case } from "./suite.js";

interface Sent {
  call: string;
  headers: Record<string, string>;
  body: unknown;
}

/** A client whose server answers these bodies, one after the other, and what it was sent. */
function server(answers: unknown[], options: ClientOptions) {
  const sent: Sent[] = [];
  const fake: typeof fetch = async (input, init) => {
    const body = init!.body === undefined ? undefined : JSON.parse(init!.body as string);
    sent.push({ call: `${init!.method} ${new URL(String(input)).pathname}`, headers: init!.headers as Record<string, string>, body });
    const answer = answers[sent.length - 1];
    return answer === null ? new Response(null, { status: 204 }) : new Response(JSON.stringify(answer), { headers: { "Content-Type": "application/json" } });
  };
  return { client: createClient({ baseUrl: "https://keyfold.example", cmekKey: false, fetch: fake, ...options }), sent };
}

const buffer = (...bytes: number[]) => Uint8Array.from(bytes).buffer;
const passkey = { id: "p1", name: "My phone", created_at: "2026-01-02T03:04:05Z", clone_warning: false };

const registration = {
  challenge_id: "1ch_a",
  options: {
    publicKey: {
      rp: { id: "keyfold.example", name: "Keyfold" },
      user: { id: "AQID-_8", name: "ann@example.com", displayName: "ann@example.com" },
      challenge: "-_-_",
      pubKeyCredParams: [{ type: "public-key", alg: -8 }],
      excludeCredentials: [{ type: "public-key", id: "BAUG", transports: ["usb"] }],
      authenticatorSelection: { residentKey: "required", userVerification: "required" },
    },
  },
};
const login = { challenge_id: "1ch_b", options: { publicKey: { challenge: "AAEC", rpId: "keyfold.example", userVerification: "required" } } };

/** A device that fails in every way but the given one. */
const device = (given: Partial<Authenticators>): Authenticators => ({ create: () => Promise.reject(new Error("not asked")), get: () => Promise.reject(new Error("not asked")), ...given });

export const passkeys: Case[] = [
  {
    name: "a passkey is made by the device as the server asks, and registered",
    run: async () => {
      const { client, sent } = server([registration, passkey, { passkeys: [passkey] }, null], { apiKey: "1ck_x" });
      const authenticators = device({
        create: async (options) => {
          const asked = options!.publicKey!;
          equal(hex(new Uint8Array(asked.challenge as ArrayBuffer)), "fbffbf");
          equal(hex(new Uint8Array(asked.user.id as ArrayBuffer)), "010203fbff");
          equal(hex(new Uint8Array(asked.excludeCredentials![0]!.id as ArrayBuffer)), "040506");
          same(asked.excludeCredentials![0]!.transports, ["usb"]);
          same(asked.authenticatorSelection, registration.options.publicKey.authenticatorSelection);
          same(asked.pubKeyCredParams, registration.options.publicKey.pubKeyCredParams);
          const response = { clientDataJSON: buffer(0xfb, 0xff), attestationObject: buffer(1), getTransports: () => ["internal"] };
          return { id: "-_8", rawId: buffer(0xfb, 0xff), type: "public-key", response } as unknown as Credential;
        },
      });
      equal(data(await client.auth.passkeys.register("My phone", { authenticators })).id, "p1");
      equal(data(await client.auth.passkeys.list()).passkeys[0]!.name, "My phone");
      data(await client.auth.passkeys.delete("p1"));
      same(sent.map((s) => s.call), ["POST /v1/auth/passkeys/register/begin", "POST /v1/auth/passkeys/register/finish", "GET /v1/auth/passkeys", "DELETE /v1/auth/passkeys/p1"]);
      for (const s of sent) equal(s.headers["Authorization"], "Bearer 1ck_x");
      same(sent[1]!.body, {
        challenge_id: "1ch_a",
        name: "My phone",
        credential: { id: "-_8", rawId: "-_8", type: "public-key", response: { clientDataJSON: "-_8", attestationObject: "AQ", transports: ["internal"] } },
      });
    },
  },
  {
    name: "a passkey signs in, and the client acts for its user",
    run: async () => {
      const { client, sent } = server([login, { access_token: "t1", token_type: "Bearer", expires_in: 3600 }, { email: "ann@example.com" }], { browserSession: true });
      const stop = new AbortController();
      const authenticators = device({
        get: async (options) => {
          const asked = options!.publicKey!;
          equal(hex(new Uint8Array(asked.challenge as ArrayBuffer)), "000102");
          equal(asked.rpId, "keyfold.example");
          equal(asked.userVerification, "required");
          ok(options!.signal === stop.signal, "the wait can be ended");
          const response = { clientDataJSON: buffer(1), authenticatorData: buffer(2), signature: buffer(3), userHandle: utf8("u1").buffer };
          return { id: "BA", rawId: buffer(4), type: "public-key", response } as unknown as Credential;
        },
      });
      equal(data(await client.auth.passkeys.signIn({ authenticators, signal: stop.signal })).access_token, "t1");
      data(await client.auth.me());
      same(sent.map((s) => `${s.call} ${s.headers["X-Keyfold-Session"]} ${s.headers["Authorization"]}`), [
        "POST /v1/auth/passkeys/login/begin undefined undefined",
        "POST /v1/auth/passkeys/login/finish cookie undefined",
        "GET /v1/auth/me undefined Bearer t1",
      ]);
      same(sent[1]!.body, { challenge_id: "1ch_b", credential: { id: "BA", rawId: "BA", type: "public-key", response: { clientDataJSON: "AQ", authenticatorData: "Ag", signature: "Aw", userHandle: "dTE" } } });

      client.auth.forget();
      data(await client.auth.me());
      equal(sent[3]!.headers["Authorization"], undefined, "the credential after forget");
    },
  },
  {
    name: "what the device refuses is told in words, and nothing is sent",
    run: async () => {
      const cases: [string, string][] = [
        ["NotAllowedError", "passkey_cancelled"], ["AbortError", "passkey_cancelled"], ["InvalidStateError", "passkey_known"], ["SecurityError", "passkey_address"],
        ["NotSupportedError", "passkey_unsupported"], ["ConstraintError", "passkey_unsupported"],
      ];
      for (const [name, code] of cases) {
        const fails = () => Promise.reject(new DOMException("told by the browser", name));
        const { client, sent } = server([registration, login], { apiKey: "1ck_x" });
        const error = refused(await client.auth.passkeys.register("", { authenticators: device({ create: fails }) }));
        equal(error.code, code, name);
        equal(refused(await client.auth.passkeys.signIn({ authenticators: device({ get: fails }) })).code, code, name);
        equal(sent.length, 2, `${name}: calls`);
        ok(!error.message.includes("told by"), `${name}: ${error.message}`);
      }
      const { client } = server([registration, login], { apiKey: "1ck_x" });
      const error = refused(await client.auth.passkeys.register("", { authenticators: device({ create: () => Promise.reject(new DOMException("", "SecurityError")) }) }));
      ok(error.message.includes("keyfold.example"), error.message);
      equal(refused(await client.auth.passkeys.signIn({ authenticators: device({ get: async () => null }) })).code, "passkey_cancelled");
    },
  },
];
