package server_test

import "strings"

// isGenerationC reports whether a path is one of generation C, which the document
// leaves out: its clients have one of their own.
func isGenerationC(path string) bool {
	return strings.HasPrefix(path, "/frontend/") || strings.HasPrefix(path, "/backend/")
}

func init() { // in front, since the matrix ends with the ends of sessions
	matrix = append([]row{
		{"POST /backend/v1/sign", `{"userId":"u"}`, "", dead, none, none, "403 200 403"},
		{"POST /frontend/v1/threads", `{"title":"t"}`, "", dead, "202", "202", "202 202 403"},
		{"GET /frontend/v1/threads", "", "", dead, "200", "200", "200 200 403"},
		{"GET /frontend/v1/threads/{thread}", "", "", dead, "404 403 403 403 403 200", none, none},
		{"PUT /frontend/v1/threads/{thread}", `{"title":"t"}`, "", dead, "404 403 403 403 403 202", none, none},
		{"POST /frontend/v1/threads/{thread}/messages", `{"body":1}`, "", dead, "404 403 403 403 403 202", none, none},
		{"GET /frontend/v1/threads/{thread}/messages", "", "", dead, "404 403 403 403 403 200", none, none},
		{"GET /frontend/v1/threads/{thread}/messages/{message}", "", "", dead, "404 403 403 403 403 200", none, none},
		{"PUT /frontend/v1/threads/{thread}/messages/{message}", `{"body":2}`, "", dead, "404 403 403 403 403 202", none, none},
		{"DELETE /frontend/v1/threads/{thread}/messages/{message}", "", "{message}", dead, "404 403 403 403 403 202", none, none},
		{"DELETE /frontend/v1/threads/{thread}", "", "{thread}", dead, "404 403 403 403 403 202", none, none},
	}, matrix...)
}
