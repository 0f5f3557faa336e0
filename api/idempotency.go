package api

// Headers of writes that are sent again: see docs/idempotency.md.
const (
	HeaderIdempotencyKey      = "Idempotency-Key"      // 1 to 255 printable ASCII characters, another one for each write
	HeaderIdempotencyReplayed = "Idempotency-Replayed" // "true": the answer is that of the first request with this key
)

// Problem types of writes that came with an Idempotency-Key.
const (
	ProblemIdempotencyKeyReused  = "idempotency_key_reused"  // 422: the key was used for another request
	ProblemIdempotencyInProgress = "idempotency_in_progress" // 409: the first request with the key is under way; come again after Retry-After
	ProblemIdempotencyAnswerLost = "idempotency_answer_lost" // 409: the first request was begun, and its answer is lost; look whether it took effect
)
