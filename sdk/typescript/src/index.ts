// @keyfold/sdk: a client of a Keyfold server, and the CMEK format for those who
// seal and open by themselves. See README.md.

export { fromBase64, toBase64 } from "./bytes.js";
export {
  CMEK_KEY_SIZE, cmekDecrypt, cmekDecryptValue, cmekEncrypt, cmekEncryptValue, cmekFingerprint, CmekKey, cmekKeyCheck,
  generateCmekKey, inspectCmekValue, type CmekContext, type CmekKeyLike, type CmekValueInfo,
} from "./cmek.js";
export type { Admin, KeysQuery } from "./admin.js";
export { createClient, KeyfoldClient, type ClientOptions } from "./client.js";
export {
  ApprovalRequiredError, AuthError, CmekError, ConflictError, GoneError, KeyfoldError, NetworkError, NotFoundError, PaymentRequiredError,
  RateLimitError, ResourceLimitExceededError, ServerError, ValidationError, type CmekErrorCode, type ErrorInfo, type ErrorType,
} from "./errors.js";
export type { FollowOptions, ThreadEvent } from "./follow.js";
export type { Http, RequestOptions } from "./http.js";
export type { Agents, ApiKeys, Auth, Orgs, Policies } from "./identity.js";
export { formatJson, parseJson } from "./json.js";
export { formatCmekKeyFile, parseCmekKey, parseCmekKeyFile } from "./keyfile.js";
export type { CmekKeyOption, CmekSealer } from "./keys.js";
export type { ClientRotation, ClientRotationOptions, KeptVersion } from "./reencrypt.js";
export type { Authenticators, PasskeyOptions, Passkeys } from "./passkeys.js";
export type { Meta, Result } from "./result.js";
export { METADATA_ENCODING, type PutOptions, type PutSecret, type Secrets, type SecretValue } from "./secrets.js";
export type { Audit, OpenedShare, OpenShareOptions, Shares } from "./shares.js";
export type { MessageQuery, Messages, ThreadQuery, Threads } from "./threads.js";
export type { ExportOptions, ImportOptions, LinesSource } from "./transfer.js";
export type { Session } from "./tokens.js";
export { checkTrail, type TrailOptions, type TrailProblem, type TrailReport } from "./trail.js";
export type * as wire from "./types.js";
export type { EnableOptions, RotateOptions, Vaults, WaitOptions } from "./vault.js";
