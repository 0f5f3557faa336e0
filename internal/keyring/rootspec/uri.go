package rootspec

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/keyring/pkcs11root"
)

// maxPool is the most sessions that x-pool may ask for.
const maxPool = 64

// parseURI takes apart what follows "pkcs11:". Every attribute must be one that
// is used here: one that was passed over might have told two tokens apart.
func parseURI(rest string, getenv func(string) string) (Spec, error) {
	path, query, _ := strings.Cut(rest, "?")
	cfg := pkcs11root.Config{}
	var pin string
	set := map[string]func(string) error{
		"token":  func(v string) error { cfg.Token = v; return nil },
		"serial": func(v string) error { cfg.Serial = v; return nil },
		"slot-id": func(v string) error {
			n, err := strconv.ParseUint(v, 10, 32)
			slot := uint(n)
			cfg.Slot = &slot
			return asNumber(err)
		},
	}
	if err := eachAttribute(path, ";", set); err != nil {
		return Spec{}, err
	}
	set = map[string]func(string) error{
		"module-path": func(v string) error { cfg.Module = v; return nil },
		"pin-source":  func(v string) error { pin = v; return nil },
		"x-pool": func(v string) (err error) {
			if cfg.Sessions, err = strconv.Atoi(v); err == nil && (cfg.Sessions < 1 || cfg.Sessions > maxPool) {
				return fmt.Errorf("wants 1 to %d sessions", maxPool)
			}
			return asNumber(err)
		},
	}
	if err := eachAttribute(query, "&", set); err != nil {
		return Spec{}, err
	}
	switch {
	case cfg.Token == "" && cfg.Serial == "" && cfg.Slot == nil:
		return Spec{}, errors.New("the PKCS#11 URI names no token; add token=LABEL, serial=HEX or slot-id=N after the scheme")
	case !filepath.IsAbs(cfg.Module):
		return Spec{}, errors.New("the PKCS#11 URI needs ?module-path= with the absolute path of the token's library")
	case pin == "":
		return Spec{}, errors.New("the PKCS#11 URI needs pin-source=" + sourceForms)
	}
	source, err := parseSource(pin, getenv)
	if err != nil {
		return Spec{}, fmt.Errorf("pin-source in the PKCS#11 URI: %w", err)
	}
	return Spec{token: &cfg, pin: source}, nil
}

func asNumber(err error) error {
	if err != nil {
		return errors.New("wants a number")
	}
	return nil
}

// eachAttribute calls the function in set for each name=value in list. No error
// shows a value.
func eachAttribute(list, separator string, set map[string]func(string) error) error {
	seen := map[string]bool{}
	for attr := range strings.SplitSeq(list, separator) {
		if attr == "" {
			continue
		}
		name, raw, ok := strings.Cut(attr, "=")
		value, err := url.PathUnescape(raw)
		use := set[name]
		switch {
		case name == "pin-value":
			return errors.New("the PKCS#11 URI holds a pin-value, which others can read; put the PIN in a file of mode 0600 and name it with pin-source=file:PATH")
		case use == nil && !ok:
			return errors.New("the PKCS#11 URI has a part that is no name=value")
		case use == nil:
			return fmt.Errorf("the PKCS#11 URI has the attribute %q in a place where it means nothing here; use token, serial, slot-id before the '?' and module-path, pin-source, x-pool after it", name)
		case seen[name]:
			return fmt.Errorf("the PKCS#11 URI has %s twice", name)
		case err != nil || value == "":
			return fmt.Errorf("the PKCS#11 URI: %s has no value, or one that is not percent-encoded right", name)
		}
		seen[name] = true
		if err := use(value); err != nil {
			return fmt.Errorf("the PKCS#11 URI: %s %w", name, err)
		}
	}
	return nil
}
