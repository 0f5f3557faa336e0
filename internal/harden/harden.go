// Package harden protects the memory of its process from the rest of the
// machine: no core dumps, no reading or tracing by other processes of the same
// user, no swapping out.
//
// It owns settings of the process, which end with it, and keeps nothing. It
// trusts the kernel and whoever has its privileges: root reads any memory.
package harden

// Apply asks the system for every protection and returns those that it does
// not give, each as one sentence that says what to do. Call it before the first
// key is in memory. A process that goes on without them works as well.
func Apply() (missing []string) {
	for _, protect := range protections {
		if sentence := protect(); sentence != "" {
			missing = append(missing, sentence)
		}
	}
	return missing
}
