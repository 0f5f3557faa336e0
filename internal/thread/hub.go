package thread

import "sync"

// hub knows who follows which thread on this server.
type hub struct {
	mu        sync.Mutex
	followers map[string]map[chan change]bool // by thread
}

// follow returns a channel of what changes in a thread from now on, and how to
// leave. A channel that is full misses changes, and gets a zero change first when
// there is room again: look into the store then.
func (h *hub) follow(threadID string) (changes <-chan change, leave func()) {
	c := make(chan change, 16)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followers == nil {
		h.followers = map[string]map[chan change]bool{}
	}
	if h.followers[threadID] == nil {
		h.followers[threadID] = map[chan change]bool{}
	}
	h.followers[threadID][c] = false
	return c, func() { h.leave(threadID, c) }
}

func (h *hub) leave(threadID string, c chan change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers[threadID], c)
	if len(h.followers[threadID]) == 0 {
		delete(h.followers, threadID)
	}
}

// tell waits for nobody.
func (h *hub) tell(threadID string, told change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, missed := range h.followers[threadID] {
		if missed && !offer(c, change{}) {
			continue
		}
		h.followers[threadID][c] = !offer(c, told)
	}
}

func offer(c chan change, told change) bool {
	select {
	case c <- told:
		return true
	default:
		return false
	}
}
