// Errors: what the server answered, and what this package refuses by itself.
// None of them shows a value, a key or a token.

/** The kinds of errors, as `error.type` of a result tells them. */
export type ErrorType =
  | "validation_error"
  | "auth_error"
  | "payment_required"
  | "resource_limit_exceeded"
  | "approval_required"
  | "not_found"
  | "conflict"
  | "gone"
  | "rate_limit"
  | "server_error"
  | "cmek_error"
  | "unknown";

/** The error of a result. */
export interface ErrorInfo {
  type: ErrorType;
  /** What went wrong and what to do. */
  message: string;
  /** Tells cases of one type apart: the server's problem type, or a CmekErrorCode. */
  code?: string;
  /** Finds the request in the server's log. */
  request_id?: string;
  /** Seconds that the server asks to wait. */
  retry_after?: number;
  /** Of type approval_required: what a human has to approve. */
  approval_request_id?: string;
}

/** What else an answer told. */
export interface ErrorFacts {
  status?: number;
  code?: string;
  requestId?: string;
  retryAfter?: number;
  approvalRequestId?: string;
}

/** Any error of this package. The classes below say more. */
export class KeyfoldError extends Error {
  readonly type: ErrorType = "unknown";
  /** HTTP status; 0 when no server was asked, or none answered. */
  readonly status: number;
  readonly code: string | undefined;
  readonly requestId: string | undefined;
  /** Seconds that the server asks to wait. */
  readonly retryAfter: number | undefined;
  readonly approvalRequestId: string | undefined;

  constructor(message: string, facts: ErrorFacts = {}) {
    super(message);
    this.name = new.target.name;
    this.status = facts.status ?? 0;
    this.code = facts.code;
    this.requestId = facts.requestId;
    this.retryAfter = facts.retryAfter;
    this.approvalRequestId = facts.approvalRequestId;
  }

  /** The error as a result carries it. */
  info(): ErrorInfo {
    const info: ErrorInfo = { type: this.type, message: this.message };
    if (this.code !== undefined) info.code = this.code;
    if (this.requestId !== undefined) info.request_id = this.requestId;
    if (this.retryAfter !== undefined) info.retry_after = this.retryAfter;
    if (this.approvalRequestId !== undefined) info.approval_request_id = this.approvalRequestId;
    return info;
  }
}

/** 400, 413 and 422: the request is wrong. */
export class ValidationError extends KeyfoldError {
  override readonly type = "validation_error";
}
/** 401 and 403: nobody known, or somebody who may not. */
export class AuthError extends KeyfoldError {
  override readonly type = "auth_error";
}
/** 402. Keyfold does not send it; a gateway before it might. */
export class PaymentRequiredError extends KeyfoldError {
  override readonly type = "payment_required";
}
/** 403: the plan's quota is used up. */
export class ResourceLimitExceededError extends KeyfoldError {
  override readonly type = "resource_limit_exceeded";
}
/** 403: a human has to approve first. */
export class ApprovalRequiredError extends KeyfoldError {
  override readonly type = "approval_required";
}
/** 404: no such thing, or one that the caller may not know of. */
export class NotFoundError extends KeyfoldError {
  override readonly type = "not_found";
}
/** 409 and 412: the state does not admit the call. */
export class ConflictError extends KeyfoldError {
  override readonly type = "conflict";
}
/** 410: expired, deleted, disabled, or read as often as it may be. */
export class GoneError extends KeyfoldError {
  override readonly type = "gone";
}
/** 429. */
export class RateLimitError extends KeyfoldError {
  override readonly type = "rate_limit";
}
/** 5xx. */
export class ServerError extends KeyfoldError {
  override readonly type = "server_error";
}

/** No answer came: the connection failed, timed out or was aborted. Calls reject with it. */
export class NetworkError extends KeyfoldError {}

/**
 * What a CMEK failure is. The first group are the classes of cmek/FORMAT.md:
 * every blob that does not open is "decrypt", whatever the cause. The second
 * are refusals of a client; nothing was sent then.
 */
export type CmekErrorCode =
  | "key_size"
  | "key_encoding"
  | "no_key"
  | "two_keys"
  | "fingerprint_mismatch"
  | "bad_encoding"
  | "too_short"
  | "unknown_version"
  | "needs_context"
  | "decrypt"
  | "key_missing"
  | "key_check"
  | "not_sealed"
  | "unsealed"
  | "unbound"
  | "already_sealed"
  | "not_a_blob"
  | "not_text"
  | "rotation_key"
  | "kms_denied";

/** A failure of client-side encryption. */
export class CmekError extends KeyfoldError {
  override readonly type = "cmek_error";
  override readonly code: CmekErrorCode;

  constructor(code: CmekErrorCode, message: string) {
    super(message, { code });
    this.code = code;
    // What WebCrypto itself calls a blob that does not open, for callers that look at the name.
    if (code === "decrypt") this.name = "OperationError";
  }
}

/** The error for an answer that is not a success. */
export function errorFor(status: number, message: string, facts: ErrorFacts): KeyfoldError {
  const all = { ...facts, status };
  if (facts.code === "resource_limit_exceeded") return new ResourceLimitExceededError(message, all);
  if (facts.code === "approval_required") return new ApprovalRequiredError(message, all);
  const Class = byStatus[status] ?? (status >= 500 ? ServerError : KeyfoldError);
  return new Class(message, all);
}

const byStatus: Record<number, typeof KeyfoldError> = {
  400: ValidationError,
  401: AuthError,
  402: PaymentRequiredError,
  403: AuthError,
  404: NotFoundError,
  409: ConflictError,
  410: GoneError,
  412: ConflictError,
  413: ValidationError,
  422: ValidationError,
  429: RateLimitError,
};
