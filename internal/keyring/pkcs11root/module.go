//go:build cgo && !windows

package pkcs11root

import (
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"
)

// module is a loaded library, shared by all Roots of this process that name its
// path, since a library is initialised once per process. It is never unloaded.
type module struct {
	path string
	lib  cryptoki

	// use is held to read by who calls the library with a session, and to write
	// by who opens or closes sessions or starts the library again: no session is
	// closed under a call. It guards all below, and Root's connection.
	use   sync.RWMutex
	users int // Roots; the library is initialised while there are some
	epoch int // counts restarts: sessions from before one are gone
}

var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// acquire returns the module at path, initialised. The caller releases it.
func acquire(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	m := modules.byPath[path]
	if m == nil {
		lib, err := load(path)
		if err != nil {
			return nil, fmt.Errorf("the PKCS#11 library %s cannot be loaded (%w); install it, or correct module-path", path, err)
		}
		m = &module{path: path, lib: lib}
		modules.byPath[path] = m
	}
	m.use.Lock()
	defer m.use.Unlock()
	if m.users == 0 {
		if err := m.initialize(); err != nil {
			return nil, err
		}
	}
	m.users++
	return m, nil
}

func (m *module) release() {
	m.use.Lock()
	defer m.use.Unlock()
	if m.users--; m.users == 0 {
		m.lib.Finalize()
	}
}

// initialize is called with use held.
func (m *module) initialize() error {
	err := m.lib.Initialize()
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return fmt.Errorf("the PKCS#11 library %s does not start (%w); look at its own configuration (SoftHSM: SOFTHSM2_CONF names a file that this user can read)", m.path, err)
	}
	return nil
}

// restart makes the library forget everything it knows of its tokens, which
// some need to see that one came back. use is held.
func (m *module) restart() error {
	m.lib.Finalize()
	m.epoch++
	return m.initialize()
}
