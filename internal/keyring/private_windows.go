package keyring

import "io/fs"

// checkOwner does nothing: who may read a file is not in its mode here.
func checkOwner(string, string, fs.FileInfo, int) error { return nil }

// syncDir does nothing: a directory cannot be synced here.
func syncDir(string) error { return nil }
