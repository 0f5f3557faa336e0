package api

// ImportedMessages is the answer to POST /v1/threads/{thread}/import.
type ImportedMessages struct {
	Imported int `json:"imported"`
	Present  int `json:"present"`           // the thread had them already
	LeftOut  int `json:"left_out,omitzero"` // what could not be brought: others' reactions, replies to what is not there, messages of which nothing is left
}
