// Values made at random in this browser, by its cryptographic generator.

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const digits = "0123456789";
const marks = "!#%&()*+,-./:;<=>?@[]^_{|}~"; // none that a shell or a quoted text takes for itself

/** How long a password may be made. */
export const passwordLength = { min: 8, max: 256 } as const;

/** A password of letters and digits, with marks if wanted; every one of that length that has each kind is as likely as any other. */
export function randomPassword(length: number, withMarks: boolean): string {
  const kinds = withMarks ? [letters, digits, marks] : [letters, digits];
  for (;;) {
    const text = draw(length, kinds.join(""));
    if (kinds.every((kind) => [...text].some((c) => kind.includes(c)))) return text;
  }
}

/** Characters of an alphabet, each as likely as the others: a byte beyond the last whole alphabet is thrown away. */
function draw(length: number, alphabet: string): string {
  const fair = 256 - (256 % alphabet.length);
  const bytes = new Uint8Array(256);
  let out = "";
  while (out.length < length) {
    for (const b of crypto.getRandomValues(bytes)) if (b < fair && out.length < length) out += alphabet[b % alphabet.length];
  }
  bytes.fill(0);
  return out;
}

/** Bytes as text. */
export function randomKey(size: number, form: "base64" | "hex"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(size));
  const text = form === "hex" ? Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("") : btoa(String.fromCharCode(...bytes));
  bytes.fill(0);
  return text;
}

/** How hard a password is to guess, in bits. */
export const passwordBits = (length: number, withMarks: boolean): number => Math.floor(length * Math.log2(letters.length + digits.length + (withMarks ? marks.length : 0)));
