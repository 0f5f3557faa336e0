// The patterns of policies and scopes, by the rules of the server's package
// access: segments between slashes; "*" is exactly one, "**" any number of them,
// none included, wherever it stands; all else is literal. What the server matches is
// in internal/policy/testdata/readers.json, to which test/policies.test.ts holds this.

const maxPattern = 512; // bytes
const control = /\p{Cc}/u;

/** Whether path matches pattern. After a mismatch only the last "**" tries a longer run, so it always ends soon. */
export function matches(pattern: string, path: string): boolean {
  const want = pattern.split("/");
  const have = path.split("/");
  let p = 0;
  let s = 0;
  let after = -1; // of the pattern, behind the last "**"
  let run = 0; // of the path, where its run ends
  while (s < have.length) {
    if (want[p] === "**") {
      after = ++p;
      run = s;
    } else if (p < want.length && (want[p] === "*" || want[p] === have[s])) {
      p++;
      s++;
    } else if (after >= 0) {
      s = ++run;
      p = after;
    } else return false;
  }
  return want.slice(p).every((w) => w === "**");
}

/** What is wrong with a pattern; undefined: nothing. */
export function patternProblem(pattern: string): string | undefined {
  const bytes = new TextEncoder().encode(pattern).length;
  if (bytes === 0 || bytes > maxPattern) return `A pattern has 1 to ${maxPattern} bytes, such as db/*, db/** or db/credentials`;
  if (control.test(pattern)) return "A pattern has no control characters";
  if (pattern.startsWith("/") || pattern.endsWith("/") || pattern.includes("//")) return "A pattern does not begin or end with a slash, or have two together";
  return undefined;
}

/** Whether a scope is a label such as vaults:read, which limits no paths. */
export function isLabel(scope: string): boolean {
  return /^[\w-]+:[\w-]+$/.test(scope);
}
