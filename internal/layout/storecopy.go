package layout

// StoreCopy is the key of how far a copy into the store is: the store is not whole
// while it is there.
func StoreCopy() string { return "storecopy" }

// StoreRestore is the key of the name of the restore that is filling the store: the
// store is that restore's alone, and no key store yet, while it is there.
func StoreRestore() string { return "storerestore" }
