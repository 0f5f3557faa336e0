package layout

// StoreCopy is the key of how far a copy into the store is: the store is not whole
// while it is there.
func StoreCopy() string { return "storecopy" }
