// The two keys of a server-assisted rotation, sealed by HPKE (RFC 9180, base
// mode) to a one-time public key of the key process. The HPKE library is
// loaded when it is needed.

import { concat, encodeText, fromBase64, toBase64, view } from "./bytes.js";
import { CmekError } from "./errors.js";
import type { RotationKey, SealedRotationKeys } from "./types.js";

/** The one suite: KEM, KDF and AEAD. */
export const ROTATION_SUITE = "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM";

/** old | new, sealed; info binds vault and both fingerprints. */
export async function sealRotationKeys(
  to: RotationKey, vaultId: string, old: Uint8Array, fresh: Uint8Array, oldFingerprint: string, newFingerprint: string,
): Promise<SealedRotationKeys> {
  if (to.suite !== ROTATION_SUITE) {
    throw new CmekError("rotation_key", `The server wants rotation keys sealed by the suite ${String(to.suite).slice(0, 80)}, which this version does not know`);
  }
  const { Aes256Gcm, CipherSuite, DhkemP256HkdfSha256, HkdfSha256 } = await import("@hpke/core");
  const suite = new CipherSuite({ kem: new DhkemP256HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const info = encodeText(["keyfold/cmek-rotation/v1", vaultId, oldFingerprint, newFingerprint].join("\n"));
  const both = concat(old, fresh);
  try {
    const recipientPublicKey = await suite.kem.deserializePublicKey(view(fromBase64(to.public_key)).buffer);
    const { enc, ct } = await suite.seal({ recipientPublicKey, info: view(info).buffer }, view(both).buffer);
    return { key_id: to.key_id, enc: toBase64(new Uint8Array(enc)), ciphertext: toBase64(new Uint8Array(ct)) };
  } catch {
    throw new CmekError("rotation_key", "The server's public key for the rotation is not a key of its suite");
  } finally {
    both.fill(0);
  }
}
