package identity

// signing is the signing secrets that were opened.
type signing struct{}
