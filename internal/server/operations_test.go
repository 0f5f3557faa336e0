package server_test

import (
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/openapi"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/trail"
)

// operation says of one route what the document does beyond what its row says.
type operation struct {
	call, id, does string
	in, out        any // zero values of the bodies; nil: none
	status         int // of the answer; 0: 200, or 204 where there is no out
	more           operationMore
}

// operationMore is what few operations have.
type operationMore struct {
	text    string
	media   string // of an answer that is not JSON
	sends   string // the media type of a body that is not JSON
	params  []openapi.Param
	headers []string       // of the answer
	fails   map[int]string // beyond what the row makes of it
	nothing string         // when it is 204
	version bool           // the last segment of {path...} is a parameter of its own, {version}
}

type operationGroup struct {
	tag, text  string
	operations []operation
}

// rawRow is the media type of rows as they lie.
const rawRow = "application/octet-stream"

// Failures of several operations.
const (
	inClear     = "It is not encrypted, and not shown to operators."
	gone        = "The secret or version was deleted, disabled, or has expired, or its reads are used up."
	limited     = "The caller may not do this, or the org's plan admits no more of them (type `resource_limit_exceeded`)."
	keyMismatch = "The declared fingerprint is neither that of the vault's key nor of the one that it is being rotated to (type `cmek_key_mismatch`), " +
		"or a rotation is about to end and the value is sealed with its old key (type `cmek_rotation_closing`, with Retry-After)."
	rotating  = "A rotation of the key is under way (type `cmek_rotating`)."
	otherSite = "The header X-Keyfold-Session came from a page of another origin."
	tooMany   = "There are as many as there can be; delete one."
)

// operations is the table that the document is made of. An operation is one
// row; the two are held against each other.
var operations = []operationGroup{
	{"vaults", "Vaults hold secrets.", []operation{
		{"POST /v1/vaults", "createVault", "Make a vault", api.CreateVault{}, api.Vault{}, 201, operationMore{fails: fails{403: limited}}},
		{"GET /v1/vaults", "listVaults", "List the vaults that the caller may see", nil, api.Vaults{}, 0, operationMore{}},
		{"GET /v1/vaults/{vault}", "getVault", "Show a vault", nil, api.Vault{}, 0, operationMore{}},
		{"DELETE /v1/vaults/{vault}", "deleteVault", "Delete a vault and all that is in it", nil, nil, 0, operationMore{}},
	}},
	{"cmek", "Customer-managed keys: values that are sealed by the client before they are sent.", []operation{
		{"POST /v1/vaults/{vault}/cmek", "enableCmek", "Enable a customer-managed key", api.EnableCMEK{}, api.Vault{}, 0, operationMore{
			text:  "Later writes must be blobs; what is stored stays as it is. The key itself is never sent. It needs the plan business or enterprise (403 otherwise).",
			fails: fails{409: "The vault's key is not the one that is to be replaced (type `cmek_key_mismatch`), or is being rotated (type `cmek_rotating`)."}}},
		{"DELETE /v1/vaults/{vault}/cmek", "disableCmek", "Disable the customer-managed key", nil, api.Vault{}, 0, operationMore{
			text: "Later writes are plain; what was sealed keeps its flag and still needs its key.", fails: fails{409: rotating}}},
		{"GET /v1/vaults/{vault}/cmek", "getCmek", "Show the vault's key, and which keys still open how many versions", nil, api.CMEKStatus{}, 0, operationMore{
			params: params{{In: "query", Name: "keys", Description: "false: without what is said of stored versions, which costs a scan of them", Schema: openapi.Schema{"type": "boolean", "default": true}}}}},
		{"POST /v1/vaults/{vault}/cmek-rotate", "rotateCmek", "Let the server re-encrypt all versions under another key", api.RotateCMEK{}, api.CMEKRotationJob{}, 202, operationMore{
			text: "Send both keys, sealed in sealed_keys or in the two headers. Headers are taken over TLS, from the server's own machine, and from a trusted proxy alone. " +
				"They are kept in memory until the rotation ends. The same request goes on with a rotation that was interrupted. " +
				"Where the key process holds the keys of as many rotations as it can, the answer is 503 (type `cmek_rotations_full`).",
			params: params{
				header(api.HeaderCMEKOldKey, "The vault's key, where it is not in sealed_keys", keySchema),
				header(api.HeaderCMEKNewKey, "The key of new_fingerprint, where it is not in sealed_keys", keySchema),
			},
			headers: []string{"Location"},
			fails: fails{
				400: "The request is not what this call takes, the vault has no customer-managed key, or a key is missing or wrong (types `cmek_old_key`, `cmek_new_key`, `cmek_key_check`), or came over a connection that others can read (type `cmek_unsafe_transport`). " +
					"Of sealed_keys: they do not open (type `cmek_sealed_keys`), or the key that they are sealed to was used or has expired (type `cmek_rotation_key_gone`); ask for another one, once.",
				409: "A rotation to another key is under way, or the vault's key was changed meanwhile (type `cmek_rotating`).",
				429: "Too many requests, or the org has its share of rotations (type `cmek_share_used`, with Retry-After).",
			}}},
		{"GET /v1/vaults/{vault}/cmek-rotate-key", "getCmekRotationKey", "Make a public key that the keys of one rotation are sealed to", nil, api.CMEKRotationKey{}, 0, operationMore{
			fails: fails{429: "Too many requests, or the org has its share of such keys (type `cmek_share_used`, with Retry-After)."}}},
		{"GET /v1/vaults/{vault}/cmek-rotate/{job}", "getCmekRotation", "Show a rotation", nil, api.CMEKRotationJob{}, 0, operationMore{}},
		{"DELETE /v1/vaults/{vault}/cmek-rotate/{job}", "cancelCmekRotation", "End a rotation; the vault keeps its key, and what is under the new one stays so", nil, api.CMEKRotationJob{}, 0, operationMore{
			fails: fails{409: "The rotation has just become complete."}}},
		{"GET /v1/vaults/{vault}/cmek-rotations", "listCmekRotations", "List the vault's rotations, newest first", nil, api.CMEKRotations{}, 0, operationMore{}},
		{"GET /v1/vaults/{vault}/cmek-versions", "listCmekVersions", "List the versions under a customer-managed key, without values", nil, api.CMEKVersions{}, 0, operationMore{
			params: params{{In: "query", Name: "fingerprint", Description: "Of the key", Required: true, Schema: fingerprintSchema}, limit(1000, 1000), query("cursor", "What next_cursor of the page before says")}}},
		{"PUT /v1/vaults/{vault}/secret-version/{path...}", "reencryptVersion", "Put a version that the client has sealed anew in the place of itself", api.ReencryptVersion{}, api.SecretMetadata{}, 0, operationMore{
			version: true,
			text:    "For a client that changes the key of a vault and sends no key: it reads a version, opens it, seals it with the vault's new key, and stores it here. All else of the version stays.",
			fails: fails{
				400: "The request is not what this call takes: the vault has no customer-managed key, or the value is no blob (type `cmek_blob_required`).",
				409: keyMismatch, 410: gone,
				412: "The version is not under the key of old_fingerprint, perhaps since another client was faster.",
			}}},
	}},
	{"secrets", "Secrets of a vault, each with versions 1, 2, 3 and so on.", []operation{
		{"GET /v1/vaults/{vault}/secrets", "listSecrets", "List the newest versions, without values", nil, api.Secrets{}, 0, operationMore{
			params: params{query("prefix", "What the paths begin with"), details}}},
		{"PUT /v1/vaults/{vault}/secrets/{path...}", "putSecret", "Write the next version of a secret", api.PutSecret{}, api.SecretMetadata{}, 201, operationMore{
			params: params{
				header("If-Match", `The version that must be the newest, in quotes: "3". Otherwise nothing is stored (412).`, openapi.Schema{"type": "string", "pattern": `^"[1-9][0-9]*"$`}),
				header(api.HeaderCMEKFingerprint, "Fingerprint of the key that the value was sealed with. Where it is not the vault's, nothing is stored (409).", fingerprintSchema),
			},
			fails: fails{
				400: "The request is not what this call takes; in a vault with a customer-managed key also: the value is no blob (type `cmek_blob_required`).",
				403: limited, 409: keyMismatch, 412: "If-Match names another version than the newest.",
			}}},
		{"GET /v1/vaults/{vault}/secrets/{path...}", "getSecret", "Read the newest version", nil, api.Secret{}, 0, operationMore{
			headers: []string{api.HeaderCMEKFingerprint}, fails: fails{410: gone}}},
		{"DELETE /v1/vaults/{vault}/secrets/{path...}", "deleteSecret", "Delete all versions", nil, nil, 0, operationMore{}},
		{"GET /v1/vaults/{vault}/secret-versions/{path...}", "listSecretVersions", "List the versions, without values", nil, api.Versions{}, 0, operationMore{params: params{details}}},
		{"GET /v1/vaults/{vault}/secret-version/{path...}", "getSecretVersion", "Read a version", nil, api.Secret{}, 0, operationMore{
			version: true, headers: []string{api.HeaderCMEKFingerprint}, fails: fails{410: gone}}},
		{"POST /v1/vaults/{vault}/secret-version-disable/{path...}", "disableSecretVersion", "Disable a version", nil, nil, 0, operationMore{version: true}},
		{"POST /v1/vaults/{vault}/secret-rotate/{path...}", "generateSecret", "Let the server make the next version at random", api.GenerateSecret{}, api.SecretMetadata{}, 201, operationMore{
			text:  "Not in a vault with a customer-managed key, which the server does not have.",
			fails: fails{403: limited}}},
	}},
	{"policies", "What principals may do with the secrets of a vault.", []operation{
		{"POST /v1/vaults/{vault}/policies", "createPolicy", "Make a policy", api.CreatePolicy{}, api.Policy{}, 201, operationMore{}},
		{"GET /v1/vaults/{vault}/policies", "listPolicies", "List a vault's policies", nil, api.Policies{}, 0, operationMore{}},
		{"PUT /v1/vaults/{vault}/policies/{policy}", "updatePolicy", "Change a policy", api.UpdatePolicy{}, api.Policy{}, 0, operationMore{}},
		{"DELETE /v1/vaults/{vault}/policies/{policy}", "deletePolicy", "Delete a policy", nil, nil, 0, operationMore{}},
	}},
	{"agents", "Programs that act for an org.", []operation{
		{"POST /v1/agents", "createAgent", "Make an agent and its key", api.CreateAgent{}, api.AgentCreated{}, 201, operationMore{fails: fails{403: limited}}},
		{"GET /v1/agents", "listAgents", "List the agents that the caller may see", nil, api.Agents{}, 0, operationMore{
			params: params{limit(1000, 1000), query("cursor", "What next_cursor of the page before says")}}},
		{"GET /v1/agents/me", "getAgentSelf", "Show the agent that asks", nil, api.AgentSelf{}, 0, operationMore{}},
		{"POST /v1/agents/enroll", "enrollAgent", "Ask for a human who makes this program an agent", api.EnrollAgent{}, api.AgentEnrolled{}, 201, operationMore{}},
		{"POST /v1/agents/batch-delete", "deleteAgents", "Delete several agents", api.DeleteAgents{}, api.AgentsDeleted{}, 0, operationMore{}},
		{"GET /v1/agents/{agent}", "getAgent", "Show an agent", nil, api.Agent{}, 0, operationMore{}},
		{"PATCH /v1/agents/{agent}", "updateAgent", "Change an agent", api.UpdateAgent{}, api.Agent{}, 0, operationMore{}},
		{"DELETE /v1/agents/{agent}", "deleteAgent", "Delete an agent", nil, nil, 0, operationMore{}},
		{"POST /v1/agents/{agent}/rotate-key", "rotateAgentKey", "Make an agent a new key; the one before is dead", nil, api.AgentKeyRotated{}, 0, operationMore{}},
	}},
	{"threads", "Conversations and their messages.", []operation{
		{"POST /v1/threads", "createThread", "Make a thread", api.CreateThread{}, api.Thread{}, 0, operationMore{}},
		{"GET /v1/threads", "listThreads", "List the caller's threads, newest first", nil, api.Threads{}, 0, operationMore{
			params: params{query("title", "A part of the title, in upper or lower case"), query("slug", "The whole slug"), limit(thread.MaxPage, thread.MaxPage), query("cursor", "What next_cursor of the page before says")}}},
		{"GET /v1/threads/{thread}", "getThread", "Show a thread", nil, api.Thread{}, 0, operationMore{}},
		{"PUT /v1/threads/{thread}", "updateThread", "Give a thread another title", api.UpdateThread{}, api.Thread{}, 0, operationMore{}},
		{"DELETE /v1/threads/{thread}", "deleteThread", "Delete a thread", nil, nil, 0, operationMore{}},
		{"POST /v1/threads/{thread}/messages", "postMessage", "Post a message", api.PostMessage{}, api.Message{}, 0, operationMore{
			fails: fails{409: "There are too many messages of this ts, or the Idempotency-Key was used for a message that is gone."}}},
		{"GET /v1/threads/{thread}/messages", "listMessages", "List messages, oldest first: the newest, or those beside a message", nil, api.Messages{}, 0, operationMore{
			params: params{limit(thread.MaxPage, thread.MaxPage), query("before", "ID of a message: those before it"), query("after", "ID of a message: those after it"), includeDeleted}}},
		{"POST /v1/messages", "postMessageTo", "Post a message in a thread that is named, or else made", api.PostToThread{}, api.Message{}, 0, operationMore{
			fails: fails{404: "", 409: "There are too many messages of this ts, or the Idempotency-Key was used for a message that is gone."}}},
		{"GET /v1/messages", "listMessagesOf", "List messages of the thread that is named, oldest first", nil, api.Messages{}, 0, operationMore{
			params: params{{In: "query", Name: "thread", Description: "ID of the thread", Required: true},
				limit(thread.MaxPage, thread.MaxPage), query("before", "ID of a message: those before it"), query("after", "ID of a message: those after it"), includeDeleted},
			fails: fails{404: ""}}},
		{"GET /v1/threads/{thread}/events", "followThread", "Follow a thread: what changes in it, as server-sent events", nil, "", 0, operationMore{
			media: eventStream,
			text: "An event is named created, edited, deleted, reactions, thread, or purged (that message and all before it are gone, for their age), and its data is a MessageEvent: the message as it is now. Its id, sent as Last-Event-ID, goes on after it, " +
				"and what came in the ten seconds before it may come again. A comment comes every 15 seconds, with an id of the time. " +
				"The stream ends when the caller may not read the thread any more, when the server closes, and after a day: come again, and be told.",
			params: params{
				header("Last-Event-ID", "The id that came last; without it the stream begins with what comes next", openapi.Schema{"type": "string"}),
				query("after", "As Last-Event-ID, which goes before it"),
			},
			fails: fails{410: "Events are kept for 24 hours, and the one of this id is older.", 429: "The caller follows too many streams."}}},
		{"GET /v1/threads/{thread}/export", "exportThread", "Export a thread with all versions and what was deleted: one ThreadExportLine a line", nil, "", 0, operationMore{
			text: "The last line says `\"end\": true` and how many messages there are; without it the export was cut off. Bodies of a thread under a customer's key are blobs.", media: "application/x-ndjson"}},
		{"POST /v1/threads/{thread}/import", "importThread", "Import lines of an export", api.ThreadExportLine{}, api.ImportedMessages{}, 0, operationMore{
			sends: lines,
			text: "The body is JSON lines: one ThreadExportLine a line, at most 1000 and 8 MiB, each with its `ts`; the versions of a message stand together. " +
				"What the thread has already, a message of the caller's with the same `ts` and first body, is not imported again, so the same lines may be sent again. " +
				"The author of all is the caller, and the times of edits are those of the import; others' reactions are left out, unless a backend key imports."}},
		{"GET /v1/threads/{thread}/messages/{message}", "getMessage", "Read a message", nil, api.Message{}, 0, operationMore{}},
		{"PUT /v1/threads/{thread}/messages/{message}", "editMessage", "Make a new version of a message of the caller's", api.EditMessage{}, api.Message{}, 0, operationMore{
			text: "With an Idempotency-Key the answer to the same edit again is the version that the first one made."}},
		{"DELETE /v1/threads/{thread}/messages/{message}", "deleteMessage", "Delete a message of the caller's, or in a thread of his", nil, nil, 0, operationMore{}},
		{"GET /v1/threads/{thread}/messages/{message}/versions", "listMessageVersions", "List the versions of a message, oldest first, a deleted one's too", nil, api.MessageVersions{}, 0, operationMore{
			params: params{limit(thread.MaxPage, thread.MaxPage), query("cursor", "What next_cursor of the page before says")}}},
		{"GET /v1/threads/{thread}/messages/{message}/reactions", "listReactions", "List the reactions to a message", nil, api.Reactions{}, 0, operationMore{}},
		{"POST /v1/threads/{thread}/messages/{message}/reactions", "react", "React to a message; an identity has one reaction", api.React{}, api.Message{}, 0, operationMore{
			text:   "Who proved who he is reacts under his own ID alone; an end user whom a backend key names may name any identity.",
			params: params{header("X-Identity", "Whose the reaction is, where id is absent", nil)},
			fails:  fails{409: "The message has as many reactions as it takes."}}},
		{"DELETE /v1/threads/{thread}/messages/{message}/reactions/{identity}", "unreact", "Take a reaction back", nil, nil, 0, operationMore{}},
		{"GET /v1/threads/{thread}/participants", "listParticipants", "List who takes part in a thread beside its owner", nil, api.Participants{}, 0, operationMore{}},
		{"PUT /v1/threads/{thread}/participants/{participant}", "setParticipant", "Let somebody take part in a thread of the caller's", api.PutParticipant{}, api.Participant{}, 0, operationMore{
			text: "A user or agent has to be of the org (404 otherwise).", fails: fails{409: "There are as many participants as a thread takes."}}},
		{"DELETE /v1/threads/{thread}/participants/{participant}", "removeParticipant", "Take somebody's part in a thread of the caller's away, or leave another's", nil, nil, 0, operationMore{
			params: params{{In: "query", Name: "end_user", Description: "true: the ID is an end user's", Schema: openapi.Schema{"type": "boolean", "default": false}}}}},
	}},
	{"retention", "How long an org keeps threads and messages, and what is kept for ever.", []operation{
		{"GET /v1/retention", "getRetention", "Show how long the org keeps threads and messages", nil, api.Retention{}, 0, operationMore{}},
		{"PUT /v1/retention", "setRetention", "Set how long the org keeps threads and messages", api.Retention{}, api.Retention{}, 0, operationMore{
			text: "What is too old by then is purged in the next run, and cannot be had back: ask the preview first. A number that is absent or 0 is for ever. It is for owners and admins of the org."}},
		{"GET /v1/retention/preview", "previewRetention", "Show what a run would purge of the org now", nil, api.RetentionPreview{}, 0, operationMore{
			text:   "Nothing is changed. With a number the answer is for that policy in the place of the org's.",
			params: params{{In: "query", Name: "deleted_days", Schema: atLeast(0)}, {In: "query", Name: "message_days", Schema: atLeast(0)}}}},
		{"GET /v1/threads/{thread}/hold", "getHold", "Show the legal hold of a thread", nil, api.Hold{}, 0, operationMore{
			text: "It is for who may set it.", fails: fails{404: "There is no such thread, or it is under no hold."}}},
		{"PUT /v1/threads/{thread}/hold", "holdThread", "Put a thread under a legal hold: nothing of it is purged", api.PutHold{}, api.Hold{}, 0, operationMore{
			text: "It is for owners and admins of the org, not for the thread's author. The thread may be deleted; it goes on as before."}},
		{"DELETE /v1/threads/{thread}/hold", "releaseThread", "End the legal hold of a thread", nil, nil, 0, operationMore{}},
	}},
	{"auth", "Signing up, in and out, and the caller's own account.", []operation{
		{"POST /v1/auth/signup", "signUp", "Make an account", api.SignUp{}, api.SignedUp{}, 0, operationMore{params: params{session}, fails: fails{403: "This server takes no sign-ups, or none without an invitation.", 409: "There is an account with this email."}}},
		{"POST /v1/auth/token", "signIn", "Sign in with email and password", api.SignIn{}, api.SignedIn{}, 0, operationMore{params: params{session}, fails: fails{401: "", 403: otherSite}}},
		{"DELETE /v1/auth/token", "signOut", "Sign out", api.SignOut{}, nil, 0, operationMore{params: params{session}}},
		{"DELETE /v1/auth/tokens", "signOutEverywhere", "End all sessions of the caller", nil, nil, 0, operationMore{params: params{session}}},
		{"POST /v1/auth/refresh", "refreshToken", "Turn a refresh token into a session", api.Refresh{}, api.Token{}, 0, operationMore{params: params{session}, fails: fails{401: "", 403: otherSite}, nothing: "The browser keeps no session."}},
		{"POST /v1/auth/api-key-token", "getApiKeyToken", "Turn a user's API key into an access token", api.GetAPIKeyToken{}, api.Token{}, 0, operationMore{fails: fails{401: ""}}},
		{"POST /v1/auth/agent-token", "getAgentToken", "Turn an agent's key into an access token", api.GetAgentToken{}, api.AgentToken{}, 0, operationMore{fails: fails{401: ""}}},
		{"GET /v1/auth/jwt-public-key", "getPublicKey", "Show the key that verifies access tokens", nil, api.PublicKey{}, 0, operationMore{}},
		{"GET /.well-known/jwks.json", "getKeySet", "Show the keys that verify access tokens, as RFC 7517 has them", nil, api.JWKS{}, 0, operationMore{}},
		{"GET /v1/auth/me", "getProfile", "Show the caller", nil, api.Profile{}, 0, operationMore{}},
		{"PATCH /v1/auth/me", "updateProfile", "Change the caller's profile", api.UpdateProfile{}, api.Profile{}, 0, operationMore{}},
		{"POST /v1/auth/change-password", "changePassword", "Change the password; all other sessions end", api.ChangePassword{}, nil, 0, operationMore{params: params{session}}},
		{"POST /v1/auth/mfa/totp", "beginTotp", "Begin a second factor", api.BeginTOTP{}, api.TOTP{}, 0, operationMore{fails: fails{409: "There is a second factor already."}}},
		{"POST /v1/auth/mfa/totp/confirm", "confirmTotp", "Put the second factor into force", api.TOTPCode{}, api.RecoveryCodes{}, 0, operationMore{fails: fails{404: "", 409: "It is in force already."}}},
		{"DELETE /v1/auth/mfa/totp", "removeTotp", "Remove the second factor", api.TOTPCode{}, nil, 0, operationMore{fails: fails{404: ""}}},
		{"POST /v1/auth/mfa/verify", "verifyMfa", "Finish signing in with a second factor", api.VerifyMFA{}, api.Token{}, 0, operationMore{params: params{session}, fails: fails{401: "", 403: otherSite}}},
		{"POST /v1/auth/api-keys", "createApiKey", "Make an API key", api.CreateAPIKey{}, api.APIKeyCreated{}, 201, operationMore{fails: fails{409: tooMany}}},
		{"GET /v1/auth/api-keys", "listApiKeys", "List API keys", nil, api.APIKeys{}, 0, operationMore{}},
		{"DELETE /v1/auth/api-keys/{key}", "deleteApiKey", "Delete an API key", nil, nil, 0, operationMore{}},
	}},
	{"passkeys", "Passkeys (WebAuthn). A server without a public name has none of these.", []operation{
		{"POST /v1/auth/passkeys/register/begin", "beginRegisterPasskey", "Begin to register a passkey", nil, api.PasskeyChallenge{}, 0, operationMore{fails: fails{409: tooMany}}},
		{"POST /v1/auth/passkeys/register/finish", "finishRegisterPasskey", "Register a passkey", api.FinishPasskey{}, api.Passkey{}, 201, operationMore{fails: fails{409: "There are as many as there can be, or this one is registered already."}}},
		{"GET /v1/auth/passkeys", "listPasskeys", "List the caller's passkeys", nil, api.Passkeys{}, 0, operationMore{}},
		{"DELETE /v1/auth/passkeys/{passkey}", "deletePasskey", "Delete a passkey", nil, nil, 0, operationMore{}},
		{"POST /v1/auth/passkeys/login/begin", "beginPasskeyLogin", "Begin to sign in with a passkey", nil, api.PasskeyChallenge{}, 0, operationMore{}},
		{"POST /v1/auth/passkeys/login/finish", "finishPasskeyLogin", "Sign in with a passkey", api.FinishPasskey{}, api.Token{}, 0, operationMore{params: params{session}, fails: fails{401: "", 403: otherSite}}},
	}},
	{"devices", "Signing in on a device without a browser (RFC 8628).", []operation{
		{"POST /v1/auth/device/code", "requestDeviceCode", "Ask for a code that a user enters elsewhere", api.RequestDeviceCode{}, api.DeviceCode{}, 0, operationMore{}},
		{"POST /v1/auth/device/token", "requestDeviceToken", "Ask whether the user has decided", api.RequestDeviceToken{}, api.DeviceToken{}, 0, operationMore{
			fails: fails{400: "There is no token: `error` says why, and whether to ask again (authorization_pending, slow_down, expired_token, access_denied, unsupported_grant_type)."}}},
		{"GET /v1/auth/device/code/{code}", "getDeviceRequest", "Show what asks for a token", nil, api.DeviceRequest{}, 0, operationMore{}},
		{"POST /v1/auth/device/code/{code}/approve", "approveDevice", "Sign the device in as the caller", nil, nil, 0, operationMore{}},
		{"POST /v1/auth/device/code/{code}/deny", "denyDevice", "Refuse the device", nil, nil, 0, operationMore{}},
	}},
	{"org", "The caller's org.", []operation{
		{"GET /v1/org", "getOrg", "Show the org", nil, api.Org{}, 0, operationMore{}},
		{"GET /v1/org/members", "listMembers", "List its users", nil, api.Members{}, 0, operationMore{}},
		{"PATCH /v1/org/members/{user}", "updateMember", "Change a user's role", api.UpdateMember{}, api.Member{}, 0, operationMore{fails: fails{409: "The org would have no owner."}}},
		{"DELETE /v1/org/members/{user}", "removeMember", "Remove a user", nil, nil, 0, operationMore{fails: fails{409: "The org would have no owner."}}},
		{"POST /v1/org/invitations", "createInvitation", "Invite somebody", api.CreateInvitation{}, api.InvitationCreated{}, 201, operationMore{fails: fails{409: "Who is invited is a member already, or there are too many invitations."}}},
		{"GET /v1/org/invitations", "listInvitations", "List invitations", nil, api.Invitations{}, 0, operationMore{}},
		{"DELETE /v1/org/invitations/{invitation}", "deleteInvitation", "Take an invitation back", nil, nil, 0, operationMore{}},
		{"POST /v1/_sign", "signUserId", "Sign the ID of an end user, for frontend keys", api.Sign{}, api.Signed{}, 0, operationMore{
			text: "For backend keys.", fails: fails{409: "The signing secrets were deleted meanwhile; try again."}}},
		{"POST /v1/org/signing-keys", "createSigningKey", "Make a signing secret", struct{}{}, api.SigningKeyCreated{}, 201, operationMore{fails: fails{409: tooMany}}},
		{"GET /v1/org/signing-keys", "listSigningKeys", "List signing secrets", nil, api.SigningKeys{}, 0, operationMore{}},
		{"DELETE /v1/org/signing-keys/{key}", "deleteSigningKey", "Delete a signing secret", nil, nil, 0, operationMore{}},
		{"GET /v1/billing/subscription", "getSubscription", "Show the org's plan and what is used of it", nil, api.Subscription{}, 0, operationMore{}},
		{"GET /v1/billing/usage", "getBillingUsage", "Show what the org owes: nothing", nil, api.BillingUsage{}, 0, operationMore{}},
	}},
	{"shares", "Secrets that are shown to others.", []operation{
		{"POST /v1/secrets/{secret}/share", "createShare", "Share a secret", api.CreateShare{}, api.CreatedShare{}, 201, operationMore{
			fails: fails{409: "The value is sealed and the share does not name its key (type `share_sealed`), or there are too many shares.", 410: gone}}},
		{"GET /v1/share/{share}", "openShare", "Open a share", nil, api.SharedSecret{}, 0, operationMore{
			params:  params{header(api.HeaderSharePassphrase, "Where the share has a passphrase", nil)},
			headers: []string{api.HeaderCMEKFingerprint},
			fails:   shareFails}},
		{"POST /v1/share/{share}", "openShareWithPassphrase", "Open a share whose passphrase comes in the body", api.OpenShare{}, api.SharedSecret{}, 0, operationMore{
			headers: []string{api.HeaderCMEKFingerprint}, fails: shareFails}},
		{"DELETE /v1/share/{share}", "revokeShare", "Revoke a share", nil, nil, 0, operationMore{}},
		{"GET /v1/shares/outbound", "listSharesMade", "List the shares that the caller made", nil, api.Shares{}, 0, operationMore{}},
		{"GET /v1/shares/inbound", "listSharesReceived", "List the shares that are for the caller", nil, api.Shares{}, 0, operationMore{}},
		{"POST /v1/shares/{share}/accept", "acceptShare", "Accept a share", nil, nil, 0, operationMore{}},
		{"POST /v1/shares/{share}/decline", "declineShare", "Decline a share", nil, nil, 0, operationMore{}},
	}},
	{"audit", "The trail of what was done.", []operation{
		{"GET /v1/audit/events", "listAuditEvents", "List events, newest first", nil, api.AuditEvents{}, 0, operationMore{params: eventParams}},
		{"GET /v1/audit", "listAuditEventsBare", "List events, as an array", nil, []api.AuditEvent{}, 0, operationMore{params: eventParams}},
		{"GET /v1/audit/verify", "verifyAudit", "Check the chains of the trail", nil, api.AuditVerification{}, 0, operationMore{params: verifyParams}},
		{"GET /v1/audit/export", "exportAudit", "Export the trail: one AuditExportLine a line", nil, "", 0, operationMore{media: "application/x-ndjson", params: times}},
		{"GET /.well-known/keyfold-audit.json", "getAuditKeys", "Show the keys that sign the trail's checkpoints", nil, api.AuditKeys{}, 0, operationMore{}},
		{"GET /admin/audit/events", "listOperatorEvents", "List events of the server's own trail", nil, api.AuditEvents{}, 0, operationMore{params: eventParams}},
		{"GET /admin/audit/verify", "verifyOperatorAudit", "Check the server's own trail", nil, api.AuditVerification{}, 0, operationMore{params: verifyParams}},
		{"GET /admin/audit/export", "exportOperatorAudit", "Export the server's own trail", nil, "", 0, operationMore{media: "application/x-ndjson", params: times}},
	}},
	{"admin", "For whoever runs the server, with an admin key.", []operation{
		{"POST /admin/encryption/rotate-kek", "rotateKek", "Make new primary KEK versions and rewrap under them", api.RotateKEK{}, api.Jobs{}, 202, operationMore{headers: []string{"Location"}, fails: fails{404: ""}}},
		{"GET /admin/encryption/keys", "listKeks", "List the KEKs with their versions, and how the root key stands", nil, api.EncryptionKeys{}, 0, operationMore{
			text: "It is 200 as well where the key process does not tell this server of its keys: then available is false, and message says what to do.",
			params: params{limit(1000, 100), query("cursor", "What next_cursor of the page before says"),
				{In: "query", Name: "count", Description: "true: with thread_deks, which are counted at most once in a minute", Schema: openapi.Schema{"type": "boolean", "default": false}}}}},
		{"GET /admin/encryption/deks", "listDeks", "List the DEKs of threads, with their states, ages and uses", nil, api.EncryptionDEKs{}, 0, operationMore{
			text:   "A thread that is not there, or is in clear, has none. It is 200 as well where the key process does not tell this server of its keys: then available is false, and message says what to do.",
			params: params{{In: "query", Name: "thread_id", Required: true, Description: "The thread; up to 100 times", Schema: openapi.Schema{"type": "array", "items": openapi.Schema{"type": "string"}, "minItems": 1, "maxItems": 100}}}}},
		{"POST /admin/encryption/rewrap", "rewrapDeks", "Rewrap under the present primary KEK versions", api.RotateKEK{}, api.Jobs{}, 202, operationMore{headers: []string{"Location"}, fails: fails{404: ""}}},
		{"POST /admin/encryption/encrypt-existing", "encryptExisting", "Encrypt threads that were made while the server did not encrypt", api.EncryptExisting{}, api.ThreadEncryptions{}, 0, operationMore{
			text: "The header Location names the job that does the rest, where there is one.", fails: fails{409: stillPlain}}},
		{"POST /admin/encryption/encrypt-threads", "encryptThreads", "Encrypt all threads that were made while the server did not encrypt", api.EncryptThreads{}, api.EncryptedThreads{}, 0, operationMore{headers: []string{"Location"}, fails: fails{409: stillPlain}}},
		{"POST /admin/jobs/purge", "purge", "Start retention, of all orgs, if it does not run", nil, api.PurgeStarted{}, 0, operationMore{}},
		{"GET /admin/health", "getServiceHealth", "Whether the server answers an operator", nil, api.ServiceHealth{}, 0, operationMore{}},
		{"GET /admin/stats", "getStats", "Count threads and messages", nil, api.Stats{}, 0, operationMore{text: "The first count of a thread reads all of it; later ones what came since."}},
		{"GET /admin/threads", "listAllThreads", "List the threads of all orgs, deleted ones too, by ID", nil, api.Threads{}, 0, operationMore{params: pages}},
		{"GET /admin/users", "listThreadOwners", "List who owns threads, by org", nil, api.ThreadOwners{}, 0, operationMore{params: pages}},
		{"GET /admin/users/{owner}/threads", "listThreadsOf", "List the threads of whoever has this ID", nil, api.ThreadKeys{}, 0, operationMore{params: pages}},
		{"GET /admin/users/{owner}/threads/{thread}/messages", "listMessageKeys", "List the messages of a thread, without their text", nil, api.MessageKeys{}, 0, operationMore{params: pages}},
		{"GET /admin/users/{owner}/threads/{thread}/messages/{message}", "getMessageRow", "Show a message as it lies in the store", nil, "", 0, operationMore{
			media: rawRow, fails: fails{409: inClear}}},
		{"GET /admin/keys", "listStoreKeys", "List names of rows of the store", nil, api.StoreKeys{}, 0, operationMore{
			text:   "Rows of threads, vaults and jobs, and what the KMS sealed for the server. Rows of accounts, credentials and the trail are not shown.",
			params: params{limit(1000, 100), query("cursor", "What next_cursor of the page before says"), query("prefix", "What names begin with"), query("store", "Is passed over")}}},
		{"GET /admin/keys/{name...}", "getStoreRow", "Show a row as it lies in the store", nil, "", 0, operationMore{media: rawRow, fails: fails{409: inClear}}},
		{"POST /admin/encryption/rotate-thread-dek", "rotateThreadDek", "Give a thread, or each, a fresh DEK; a job brings what there is under it", api.RotateThreadDEK{}, api.ThreadDEKRotated{}, 0, operationMore{
			headers: []string{"Location"}, fails: fails{404: "", 409: "The thread is not encrypted, and the server does not encrypt."}}},
		{"POST /admin/encryption/rewrap-deks", "rewrapThreadDeks", "Rewrap the DEKs of threads while the caller waits", api.RewrapDEKs{}, api.DEKRewraps{}, 0, operationMore{}},
		{"POST /admin/encryption/generate-kek", "generateKek", "Make 32 random bytes, under keyfold dev alone", nil, api.GeneratedKEK{}, 0, operationMore{text: "It installs nothing.", fails: fails{404: ""}}},
		{"GET /admin/jobs", "listJobs", "List jobs, newest first", nil, api.Jobs{}, 0, operationMore{}},
		{"GET /admin/jobs/{job}", "getJob", "Show a job", nil, api.Job{}, 0, operationMore{}},
		{"DELETE /admin/jobs/{job}", "cancelJob", "Cancel a job", nil, api.Job{}, 0, operationMore{}},
		{"GET /admin/debug/prometheus", "getMetrics", "Show metrics, as Prometheus reads them", nil, "", 0, operationMore{media: "text/plain"}},
		{"POST /admin/keys", "createAdminKey", "Make an admin key", api.CreateAPIKey{}, api.APIKeyCreated{}, 201, operationMore{fails: fails{409: tooMany}}},
		{"POST /admin/token-keys/rotate", "rotateTokenKey", "Make a new key that signs access tokens", api.RotateTokenKey{}, nil, 0, operationMore{}},
		{"PUT /v1/admin/orgs/{org}/billing-tier", "setBillingTier", "Put an org on a plan", api.SetBillingTier{}, api.BillingTier{}, 0, operationMore{}},
	}},
	{"health", "Whether the server works, and what it offers.", []operation{
		{"GET /healthz", "getAlive", "Whether the process answers", nil, api.Health{}, 0, operationMore{}},
		{"GET /readyz", "getReady", "Whether the server can do its work; 503 while it cannot", nil, api.Health{}, 0, operationMore{}},
		{"GET /v1/health", "getHealth", "Whether all works, always with 200", nil, api.Health{}, 0, operationMore{}},
		{"GET /v1/health/hsm", "getKeyHealth", "Whether keys can be used, always with 200", nil, api.Health{}, 0, operationMore{}},
		{"GET /v1/openapi.json", "getDocument", "This document", nil, struct{}{}, 0, operationMore{}},
	}},
}

type (
	fails  = map[int]string
	params = []openapi.Param
)

const stillPlain = "The server does not encrypt."

var (
	fingerprintSchema = openapi.Schema{"type": "string", "pattern": "^[0-9a-f]{64}$"}
	keySchema         = openapi.Schema{"type": "string", "contentEncoding": "base64", "minLength": 44, "maxLength": 44}

	shareFails = fails{
		403: "The share is for somebody else, for other addresses, or needs its passphrase (type `share_passphrase`).",
		409: "The value is sealed by now with a key that the share does not name (type `share_sealed`).", 410: gone,
	}

	includeDeleted = openapi.Param{In: "query", Name: "include_deleted", Description: "true: deleted messages too, without body", Schema: openapi.Schema{"type": "boolean", "default": false}}
	session        = header(api.HeaderSession, "The browser keeps the refresh token, in a cookie that no script reads, in place of the answer or the body; for pages of the server's own origin", openapi.Schema{"type": "string", "enum": []string{"cookie"}})
	idempotencyKey = header(api.HeaderIdempotencyKey, "1 to 255 printable ASCII characters that name the request: for a day the same request with the same key changes nothing twice, and is answered as the first one was", openapi.Schema{"type": "string", "minLength": 1, "maxLength": 255})

	pages = params{limit(thread.MaxPage, thread.MaxPage), query("cursor", "What next_cursor of the page before says")}

	times        = params{moment("from", "Of the first event, inclusive"), moment("to", "Of the last event, exclusive")}
	verifyParams = append(params{limit(trail.MaxVerify, trail.DefaultVerify)}, times...)
	eventParams  = append(params{
		query("resource_id", "Of the resource, or of the vault that it is in"), query("vault_id", "Of the vault"), query("actor_id", "Of who did it"),
		query("action", "What was done, such as secret.read"), limit(trail.MaxList, trail.DefaultList),
		{In: "query", Name: "offset", Description: "How many to pass over, up to 10000", Schema: openapi.Schema{"type": "integer", "minimum": 0}},
	}, times...)
)

// details is behind an opt-in, since published clients read these bodies strictly.
var details = openapi.Param{In: "query", Name: "details", Description: "true: with created_by and cmek_encrypted", Schema: openapi.Schema{"type": "boolean", "default": false}}

func query(name, text string) openapi.Param {
	return openapi.Param{In: "query", Name: name, Description: text}
}

func header(name, text string, s openapi.Schema) openapi.Param {
	return openapi.Param{In: "header", Name: name, Description: text, Schema: s}
}

func limit(most, absent int) openapi.Param {
	return openapi.Param{In: "query", Name: "limit", Description: "How many at most", Schema: openapi.Schema{"type": "integer", "minimum": 1, "maximum": most, "default": absent}}
}

func moment(name, text string) openapi.Param {
	return openapi.Param{In: "query", Name: name, Description: text, Schema: openapi.Schema{"type": "string", "format": "date-time"}}
}
