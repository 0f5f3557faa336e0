//go:build cgo && !windows

package pkcs11root

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

var (
	errNoObject = errors.New("the token has no such object")
	errWeak     = errors.New("the token's object is not a KEK made and kept inside it")
)

// wanted is what must be read back of every KEK: it was made inside the token
// and can never have left it.
var wanted = []struct {
	name  string
	attr  uint
	value bool
}{
	{"CKA_SENSITIVE", pkcs11.CKA_SENSITIVE, true},
	{"CKA_EXTRACTABLE", pkcs11.CKA_EXTRACTABLE, false},
	{"CKA_ALWAYS_SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE, true},
	{"CKA_NEVER_EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE, true},
	{"CKA_LOCAL", pkcs11.CKA_LOCAL, true},
}

// generate makes a KEK: on the token, or for the session.
func (r *Root) generate(s session, keep bool, label string, id []byte) (object, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, keep),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
	h, err := r.lib.GenerateKey(s, mechanism, append(template, // what some tokens do not know comes last
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false)))
	if refusesTemplate(err) {
		h, err = r.lib.GenerateKey(s, mechanism, template)
	}
	if err != nil {
		return 0, away(fmt.Errorf("make a key: %w", err))
	}
	if err := r.checkAttributes(s, h); err != nil {
		r.lib.DestroyObject(s, h)
		return 0, err
	}
	return h, nil
}

func refusesTemplate(err error) bool {
	return errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)) ||
		errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)) ||
		errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_READ_ONLY)) ||
		errors.Is(err, pkcs11.Error(pkcs11.CKR_TEMPLATE_INCONSISTENT))
}

// checkAttributes fails with errWeak for a key that is not as wanted.
func (r *Root) checkAttributes(s session, h object) error {
	ask := make([]*pkcs11.Attribute, len(wanted))
	for i, w := range wanted {
		ask[i] = pkcs11.NewAttribute(w.attr, nil)
	}
	got, err := r.lib.GetAttributeValue(s, h, ask)
	if err != nil {
		return away(fmt.Errorf("read a key's attributes: %w", err))
	}
	for i, w := range wanted {
		if v := got[i].Value; len(v) != 1 || (v[0] != 0) != w.value {
			return fmt.Errorf("%w: its %s is not %t", errWeak, w.name, w.value)
		}
	}
	return nil
}

// index learns the handles of all keys on the token in one search. One search
// per key would cost time with the square of their number.
func (r *Root) index(c *conn) error {
	s := c.all[0]
	handles, err := r.search(s)
	if err != nil {
		return err
	}
	for _, h := range handles {
		got, err := r.lib.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
		if err == nil && len(got[0].Value) > 0 {
			c.remember(got[0].Value, h)
		}
	}
	return nil
}

// find returns the handle of the object with this CKA_ID.
func (r *Root) find(c *conn, s session, id []byte) (object, error) {
	c.mu.Lock()
	h, ok := c.handles[string(id)]
	c.mu.Unlock()
	if ok {
		return h, nil
	}
	found, err := r.search(s, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	switch {
	case err != nil:
		return 0, away(err)
	case len(found) > 1:
		return 0, fmt.Errorf("%w: there are two of this CKA_ID", errWeak)
	case len(found) == 1:
		c.remember(id, found[0])
		return found[0], nil
	}
	if err := r.present(c, s); err != nil {
		return 0, err
	}
	return 0, errNoObject
}

// search returns the AES keys on the token that have all of these attributes.
func (r *Root) search(s session, attrs ...*pkcs11.Attribute) (found []object, err error) {
	attrs = append(attrs, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
	if err := r.lib.FindObjectsInit(s, attrs); err != nil {
		return nil, fmt.Errorf("search the token: %w", err)
	}
	defer r.lib.FindObjectsFinal(s)
	for {
		some, _, err := r.lib.FindObjects(s, 100)
		if err != nil || len(some) == 0 {
			return found, err
		}
		found = append(found, some...)
	}
}

func (c *conn) remember(id []byte, h object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handles[string(id)] = h
}

// any returns the handle of some object that was on the token.
func (c *conn) any() (object, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.handles {
		return h, true
	}
	return 0, false
}

func (c *conn) forget(id []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.handles, string(id))
}
