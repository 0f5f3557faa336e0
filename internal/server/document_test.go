package server_test

import (
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/openapi"
)

// about is the document's first page.
const about = `Vaults of secrets, threads of messages, and the keys of both.

**Errors** are problems (RFC 9457), sent as application/problem+json: ` + "`type`" + ` tells cases apart that a program may want to tell apart,
` + "`detail`" + ` says what went wrong and what to do, and X-Request-Id of the answer finds it in the server's log.

**Rate limits** are set by whoever runs the server, per principal, and per address where there is none. Over one is 429 with Retry-After in
whole seconds. 503 has it too. No answer is a redirect.

**Members** of a request that the server does not know are passed over. Schemas that say additionalProperties: false are those that published
clients read strictly; all others may have more members in later versions.

**Idempotency-Key**: any write may carry one. The same request with the same key changes nothing twice, for a day, and is answered as the first one was, with
Idempotency-Replayed: true. 409 of type ` + "`idempotency_in_progress`" + ` says that the first is under way; of type ` + "`idempotency_answer_lost`" + ` that it was begun and that
its answer is not known: look whether it took effect.

**Times** of threads and messages are nanoseconds since 1970: integers beyond 2^53, which a reader that keeps numbers as doubles rounds.

**Paths of secrets** may hold slashes: as they are, or percent-encoded; both name the same secret.`

var schemes = []openapi.Scheme{
	{Name: "bearer", Description: "An access token of a user or agent, or an API key as it is (`1ck_...`). Frontend and backend keys are for threads and messages alone."},
	{Name: "apiKey", Header: "X-API-Key", Description: "The same credentials, for clients that send them here. Authorization goes first."},
	{Name: "admin", Description: "An admin key (`1ck_...`), which is for these calls alone."},
	{Name: "scrape", Description: "The server's scrape token (`KEYFOLD_METRICS_TOKEN`), which is for this call alone."},
}

// answerHeaders are the headers of answers beyond the standard ones.
var answerHeaders = []openapi.Param{
	{Name: api.HeaderRequestID, Description: "Finds the call in the server's log", Required: true},
	{Name: api.HeaderIdempotencyReplayed, Description: "The answer is that of the first request with this Idempotency-Key", Schema: openapi.Schema{"type": "string", "const": "true"}},
	{Name: api.HeaderCMEKFingerprint, Description: "Fingerprint of the key that opens the value, which is a blob. Absent: the value is plain", Schema: fingerprintSchema},
	{Name: "Location", Description: "Path of the job", Required: true},
	{Name: "Retry-After", Description: "Seconds to wait, where that helps", Schema: openapi.Schema{"type": "integer", "minimum": 1}},
	{Name: "WWW-Authenticate", Description: "The scheme that is asked for", Required: true, Schema: openapi.Schema{"type": "string", "const": "Bearer"}},
}

// failures are what errors mean where an operation says nothing of its own.
var failures = map[int]openapi.Failure{
	400: problem("The request is not what this call takes: the path, the query, a header or the body."),
	401: problem("There is no live credential, or the one in the body is wrong.", "WWW-Authenticate"),
	403: problem("The caller may not do this."),
	404: problem("There is no such thing, or none that is for the caller to see."),
	408: problem("The body did not arrive in time."),
	409: problem("The state of things does not admit this.", "Retry-After"),
	410: problem("It was there and is no more."),
	412: problem("The condition of the request does not hold."),
	413: problem("The body is over the limit."),
	422: problem("The Idempotency-Key was used for another request (type `idempotency_key_reused`)."),
	429: problem("Too many calls, or too many wrong guesses.", "Retry-After"),
}

var serverFailure = openapi.Failure{Description: "The server, or a part that it needs, does not work. 503: try again; it comes with Retry-After.", Headers: []string{api.HeaderRequestID, "Retry-After"}}

func problem(text string, headers ...string) openapi.Failure {
	return openapi.Failure{Description: text, Headers: append([]string{api.HeaderRequestID}, headers...)}
}

// pathParams are the names in paths.
var pathParams = map[string]openapi.Param{
	"vault":       {Description: "ID of a vault"},
	"path":        {Description: "Path of a secret. Its slashes may be sent as they are; encoded, they are the same", Schema: openapi.Schema{"type": "string", "maxLength": api.MaxSecretPath}},
	"version":     {Description: "Number of a version", Schema: openapi.Schema{"type": "integer", "format": "int32", "minimum": 1}},
	"policy":      {Description: "ID of a policy"},
	"agent":       {Description: "ID of an agent"},
	"thread":      {Description: "ID of a thread"},
	"message":     {Description: "ID of a message"},
	"identity":    {Description: "Whose reaction it is"},
	"owner":       {Description: "ID of who owns threads"},
	"name":        {Description: "Name of a row"},
	"participant": {Description: "ID of a user or agent of the org, or of an end user"},
	"key":         {Description: "ID of a key"},
	"passkey":     {Description: "ID of a passkey"},
	"code":        {Description: "The code that the device shows"},
	"user":        {Description: "ID of a user"},
	"invitation":  {Description: "ID of an invitation"},
	"secret":      {Description: "ID of a secret, as lists and writes show it"},
	"share":       {Description: "ID of a share, or the last part of its link"},
	"job":         {Description: "ID of a job"},
	"org":         {Description: "ID of an org"},
}

// endUser is how a frontend or backend key names for whom it calls.
var endUser = []openapi.Param{
	header(api.HeaderUserID, "The end user, with a frontend or backend key", openapi.Schema{"type": "string", "maxLength": 36}),
	header(api.HeaderUserSignature, "The signature of the end user's ID, with a frontend key; see signUserId", nil),
	query("author", "The end user, with a backend key, in place of "+api.HeaderUserID+"; the body may name it, too, in a member author"),
}

// members are what Go types cannot say of bodies.
var members = map[string]openapi.Schema{
	"PutSecret.type":             oneOf(api.SecretTypes...),
	"PutSecret.metadata":         {"type": "object"},
	"PutSecret.max_access_count": atLeast(1),
	"Secret.metadata":            {"type": "object"},
	"Secret.type":                oneOf(api.SecretTypes...),
	"SecretMetadata.type":        oneOf(api.SecretTypes...),
	"SecretMetadata.metadata":    {"type": "object"},
	"ListedSecret.type":          oneOf(api.SecretTypes...),
	"ListedSecret.metadata":      {"type": "object"},
	"KEK.of":                     oneOf("vault", "threads", "server", "key-process"),
	"KEKVersion.state":           oneOf("enabled", "decrypt-only", "destroyed"),
	"RootKey.kind":               oneOf("file", "pkcs11"),
	"RootKey.state":              oneOf("unlocked", "locked"),
	"VersionMetadata.type":       oneOf(api.SecretTypes...),
	"VersionMetadata.metadata":   {"type": "object"},
	"GenerateSecret.type":        oneOf(api.SecretTypes...),
	"GenerateSecret.charset":     oneOf("hex", "base64", "alphanumeric", "ascii"),
	"GenerateSecret.length":      {"type": "integer", "minimum": 8, "maximum": 1024, "default": 32},

	"EnableCMEK.fingerprint":           fingerprintSchema,
	"EnableCMEK.replaces":              fingerprintSchema,
	"EnableCMEK.key_check":             fingerprintSchema,
	"EnableCMEK.blob_version":          blobVersion,
	"CMEKStatus.fingerprint":           fingerprintSchema,
	"CMEKStatus.key_check":             fingerprintSchema,
	"CMEKStatus.blob_version":          blobVersion,
	"CMEKKey.fingerprint":              fingerprintSchema,
	"CMEKVersion.state":                oneOf(api.CMEKReadable, api.CMEKDisabled, api.CMEKDeleted, api.CMEKExpired, api.CMEKReadOut),
	"RotateCMEK.new_fingerprint":       fingerprintSchema,
	"RotateCMEK.new_key_check":         fingerprintSchema,
	"ReencryptVersion.old_fingerprint": fingerprintSchema,
	"ReencryptVersion.new_fingerprint": fingerprintSchema,
	"CMEKRotationJob.old_fingerprint":  fingerprintSchema,
	"CMEKRotationJob.new_fingerprint":  fingerprintSchema,
	"CMEKRotationJob.status":           oneOf("running", "interrupted", "completed", "failed", "cancelled"),
	"Vault.cmek_fingerprint":           fingerprintSchema,
	"Vault.created_by_type":            oneOf("user", "agent"),

	"Policy.conditions":           openapi.Ref(api.PolicyConditions{}),
	"Policy.permissions":          listOf(api.PolicyPermissions...),
	"Policy.principal_type":       oneOf("user", "agent"),
	"Policy.effect":               oneOf("deny"),
	"CreatePolicy.conditions":     openapi.Ref(api.PolicyConditions{}),
	"CreatePolicy.permissions":    listOf(api.PolicyPermissions...),
	"CreatePolicy.principal_type": oneOf("user", "agent"),
	"CreatePolicy.effect":         oneOf("allow", "deny"),
	"UpdatePolicy.conditions":     openapi.Ref(api.PolicyConditions{}),
	"UpdatePolicy.permissions":    listOf(api.PolicyPermissions...),
	"UpdatePolicy.effect":         oneOf("allow", "deny"),

	"PostMessage.body":            {"description": "Any JSON but null"},
	"PasskeyChallenge.options":    {"type": "object"},
	"FinishPasskey.credential":    {"type": "object"},
	"CreateShare.recipient_type":  oneOf(recipients...),
	"CreatedShare.recipient_type": oneOf(recipients...),
	"Share.recipient_type":        oneOf(recipients...),
	"CreateAPIKey.role":           oneOf("", api.RoleFrontend, api.RoleBackend, api.RoleAdmin),
	"AuditEvent.outcome":          oneOf("allowed", "refused", "failed", "done"),
	"AuditEvent.actor_type":       oneOf("user", "agent", "end_user", "org_key", "operator", "anonymous"),
	"Job.status":                  oneOf("running", "interrupted", "completed", "failed", "cancelled"),
	"SetBillingTier.tier":         oneOf(plans...),
	"BillingTier.tier":            oneOf(plans...),
	"Subscription.tier":           oneOf(plans...),
	"Org.plan":                    oneOf(plans...),
	"Member.role":                 oneOf(roles...),
	"UpdateMember.role":           oneOf(roles...),
	"Profile.role":                oneOf(roles...),
}

var (
	plans       = []string{"free", "pro", "business", "enterprise"}
	roles       = []string{"owner", "admin", "member"}
	blobVersion = openapi.Schema{"type": "integer", "enum": []int{1, 2}}
	recipients  = []string{api.ShareUser, api.ShareAgent, api.ShareCreator, api.ShareEmail, api.ShareLink}
)

func oneOf(values ...string) openapi.Schema {
	return openapi.Schema{"type": "string", "enum": values}
}

func listOf(values ...string) openapi.Schema {
	return openapi.Schema{"type": "array", "items": oneOf(values...)}
}

func atLeast(n int) openapi.Schema {
	return openapi.Schema{"type": "integer", "format": "int32", "minimum": n}
}
