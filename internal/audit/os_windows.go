package audit

import "os"

// lock does nothing: two processes with one log break its chain, which Verify
// finds.
func lock(*os.File) error { return nil }
