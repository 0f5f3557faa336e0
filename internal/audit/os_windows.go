package audit

import (
	"io/fs"
	"os"
)

// checkPrivate does nothing: who may use a file is not in its mode here.
func checkPrivate(string, fs.FileInfo, fs.FileMode) error { return nil }

// lock does nothing: two processes with one log break its chain, which Verify
// finds.
func lock(*os.File) error { return nil }

// syncDir does nothing: a directory cannot be synced here.
func syncDir(string) error { return nil }
