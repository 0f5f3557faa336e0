// @keyfold/sdk/kms, for Node: CMEK keys that live in a key process of their
// owner. Values are sealed and opened by calling that keyfold-kms under the
// caller's own certificate; the key never comes here. That process sees the
// plaintexts that it seals and opens, and records who used which key for which
// vault and path.

import { readFile } from "node:fs/promises";
import { Agent as PlainAgent, request as plainRequest } from "node:http";
import { Agent, request, type RequestOptions } from "node:https";
import { fromBase64, toBase64 } from "./bytes.js";
import { inspectCmekValue, type CmekContext } from "./cmek.js";
import { CmekError, KeyfoldError, NetworkError } from "./errors.js";
import type { CmekSealer } from "./keys.js";

/** Where the key process is, and who calls. */
export interface KmsOptions {
  /** https://host:port, or unix:///path/of/socket, where the user is who calls; KEYFOLD_CMEK_KMS. */
  endpoint?: string;
  /** For https: PEM file of the caller's certificate, read again for each call; KEYFOLD_CMEK_KMS_CERT. */
  cert?: string;
  /** For https: PEM file of its key; KEYFOLD_CMEK_KMS_KEY. */
  key?: string;
  /** For https: PEM file of the CA of the process's certificate; KEYFOLD_CMEK_KMS_CA. */
  ca?: string;
  /** Of one call; 30,000 when absent. */
  timeoutMs?: number;
}

/** The key with this fingerprint in a key process, for a client's cmekKey. Whether the caller may use it, its calls tell. */
export function kmsKey(fingerprint: string, options: KmsOptions = {}): CmekSealer {
  if (!/^[0-9a-f]{64}$/.test(fingerprint)) throw new KeyfoldError("Name the key by its fingerprint, 64 lower-case hex digits");
  const kms = new Kms(options);
  const at = ({ vaultId, path }: CmekContext) => ({ fingerprint, vault: vaultId, path });
  return {
    fingerprint,
    async seal(plaintext, version, context) {
      const { value } = await kms.call<{ value: string }>("/cmek_seal", { ...at(context), version, plaintext: toBase64(plaintext) });
      const info = inspectCmekValue(String(value));
      if (info.version !== version || info.size !== plaintext.length) throw doesNotFit();
      return value;
    },
    async open(value, context) {
      const { size } = inspectCmekValue(value); // what is no blob does not leave
      const answer = await kms.call<{ plaintext: string }>("/cmek_open", { ...at(context), value });
      const plaintext = fromBase64(String(answer.plaintext));
      if (plaintext.length !== size) throw doesNotFit();
      return plaintext;
    },
  };
}

const doesNotFit = () => new KeyfoldError("The key process answered with something that does not fit the call");
const maxAnswer = 48 << 20;

interface Reply {
  status: number;
  body: Buffer;
}

class Kms {
  readonly #options: KmsOptions;
  readonly #url: URL;
  readonly #tls = new Agent({ keepAlive: true, maxSockets: 32 });
  readonly #plain = new PlainAgent({ keepAlive: true, maxSockets: 32 });

  constructor(given: KmsOptions) {
    const env = process.env;
    this.#options = { endpoint: env["KEYFOLD_CMEK_KMS"]!, cert: env["KEYFOLD_CMEK_KMS_CERT"]!, key: env["KEYFOLD_CMEK_KMS_KEY"]!, ca: env["KEYFOLD_CMEK_KMS_CA"]!, ...given };
    this.#url = parseEndpoint(this.#options.endpoint ?? "");
    const { cert, key, ca } = this.#options;
    if (this.#url.protocol === "https:" && !(cert && key && ca)) {
      throw new KeyfoldError("A key process at https:// wants a certificate, its key and a CA");
    }
  }

  /** Makes one call. Sealing and opening twice does no harm, so that a kept connection that was closed costs another try. */
  async call<T>(path: string, body: unknown): Promise<T> {
    const text = Buffer.from(JSON.stringify(body));
    try {
      const reply = await this.#send(path, text).catch((err: NodeJS.ErrnoException & { reused?: boolean }) => {
        if (err.reused && (err.code === "ECONNRESET" || err.code === "EPIPE")) return this.#send(path, text);
        throw err;
      });
      return read<T>(reply);
    } catch (err) {
      if (err instanceof KeyfoldError) throw err;
      throw new NetworkError("The key process does not answer", { code: (err as NodeJS.ErrnoException).code ?? "connection_failed" });
    } finally {
      text.fill(0);
    }
  }

  async #send(path: string, body: Buffer): Promise<Reply> {
    const options: RequestOptions = {
      method: "POST",
      path,
      headers: { "Content-Type": "application/json", "Content-Length": body.length },
      timeout: this.#options.timeoutMs ?? 30_000,
    };
    if (this.#url.protocol === "unix:") return exchange(plainRequest({ ...options, agent: this.#plain, socketPath: this.#url.pathname }), body);
    const [cert, key, ca] = await Promise.all([this.#options.cert!, this.#options.key!, this.#options.ca!].map((f) => readFile(f)));
    const tls = { cert: cert!, key: key!, ca: ca!, minVersion: "TLSv1.3" as const };
    return exchange(request({ ...options, ...tls, agent: this.#tls, host: this.#url.hostname.replace(/^\[|\]$/g, ""), port: this.#url.port || 443 }), body);
  }
}

function parseEndpoint(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // told below
  }
  const https = url?.protocol === "https:" && url.pathname === "/" && !url.username && !url.search && !url.hash;
  if (!url || !(https || (url.protocol === "unix:" && url.host === "" && url.pathname !== ""))) {
    throw new KeyfoldError("The key process's endpoint is neither https://host:port nor unix:///path/of/socket");
  }
  return url;
}

/** Sends the body and reads the whole answer. */
function exchange(sending: ReturnType<typeof request>, body: Buffer): Promise<Reply> {
  return new Promise((resolve, reject) => {
    sending.once("error", (err) => reject(Object.assign(err, { reused: sending.reusedSocket })));
    sending.once("timeout", () => sending.destroy(Object.assign(new Error("timeout"), { code: "timeout" })));
    sending.once("response", (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        if ((size += chunk.length) > maxAnswer) sending.destroy(new Error("too long"));
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
    });
    sending.end(body);
  });
}

function read<T>(reply: Reply): T {
  let answer: unknown;
  try {
    answer = JSON.parse(reply.body.toString("utf8"));
  } catch {
    throw doesNotFit();
  } finally {
    reply.body.fill(0);
  }
  if (reply.status === 200) return answer as T;
  const { error, code } = answer as { error?: unknown; code?: unknown };
  if (code === "does_not_open") throw new CmekError("decrypt", "The value does not open: another key, another place, or changed bytes");
  if (reply.status === 403) throw new CmekError("kms_denied", "The key process does not let this caller use the key");
  throw new KeyfoldError(`The key process: ${String(error).slice(0, 500)}`, { code: String(code) });
}
