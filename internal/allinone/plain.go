package allinone

import (
	"sync"
	"time"
)

const plainWarning = "encryption is off: messages of new threads are stored in clear, and whoever reads the data directory or a backup of it reads them; " +
	"to end this, start the server with encryption on and call POST /admin/encryption/encrypt-existing"

// plainOften is how often the log of a server that does not encrypt says so.
const plainOften = time.Hour

// sayPlain says now, and every hour until the node is closed, that nothing is
// encrypted, where that is so.
func (n *Node) sayPlain(cfg Config) {
	if !cfg.Plain {
		return
	}
	cfg.Log.Error(plainWarning)
	ended := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		for tick := time.NewTicker(plainOften); ; {
			select {
			case <-ended:
				tick.Stop()
				return
			case <-tick.C:
				cfg.Log.Error(plainWarning)
			}
		}
	})
	n.opened = append(n.opened, func() error {
		close(ended)
		saying.Wait()
		return nil
	})
}
