// 10,000 seals and opens of 1 KiB, by this package and by bare WebCrypto calls
// that make and read the same bytes. Prints both times and their ratio.
//
// usage: npm run build && node bench/seal.mjs [COUNT]
import { CmekKey, cmekDecrypt, cmekEncrypt } from "../dist/index.js";

const count = Number(process.argv[2] ?? 10_000);
const raw = crypto.getRandomValues(new Uint8Array(32));
const plaintext = crypto.getRandomValues(new Uint8Array(1024));
const key = await CmekKey.from(raw);
const bareKey = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);

async function bareEncrypt(k) {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  return { iv, sealed: await crypto.subtle.encrypt({ name: "AES-GCM", iv }, k, plaintext) };
}
const bareDecrypt = ({ iv, sealed }, k) => crypto.subtle.decrypt({ name: "AES-GCM", iv }, k, sealed);
const importRaw = (use) => crypto.subtle.importKey("raw", raw, "AES-GCM", false, [use]);

const rounds = {
  "a key that is ready": {
    ours: async () => cmekDecrypt(await cmekEncrypt(plaintext, key), key),
    bare: async () => bareDecrypt(await bareEncrypt(bareKey), bareKey),
  },
  "raw bytes at each call": {
    ours: async () => cmekDecrypt(await cmekEncrypt(plaintext, raw), raw),
    bare: async () => bareDecrypt(await bareEncrypt(await importRaw("encrypt")), await importRaw("decrypt")),
  },
};

async function time(round, n) {
  const began = performance.now();
  for (let i = 0; i < n; i++) await round();
  return performance.now() - began;
}

for (const [what, { ours, bare }] of Object.entries(rounds)) {
  await time(ours, count / 10);
  await time(bare, count / 10);
  const ratios = [];
  let last;
  for (let slice = 0; slice < 20; slice++) { // in turn, so that what else the machine does meets both
    last = { bare: await time(bare, count / 20), ours: await time(ours, count / 20) };
    ratios.push(last.ours / last.bare);
  }
  ratios.sort((a, b) => a - b);
  const each = ((1000 * last.ours) / (count / 20)).toFixed(1);
  console.log(`${what}: ${count} seals and opens of 1 KiB, ${each} us each; ratio to bare WebCrypto ${((ratios[9] + ratios[10]) / 2).toFixed(3)} (median of 20)`);
}
