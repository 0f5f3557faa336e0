package vault

import (
	"context"
	"fmt"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// twinSession is the two keys of a rotation in a twinKMS.
type twinSession struct {
	vault      string
	old, fresh *cmek.Key
}

// forget drops all sessions, as the end of the process would.
func (k *twinKMS) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.sessions)
}

func (k *twinKMS) open() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.sessions)
}

func (k *twinKMS) CMEKRotationKey(context.Context, string) (kmsapi.CMEKRotationKey, error) {
	return kmsapi.CMEKRotationKey{KeyID: "k", Suite: kmsapi.CMEKRotationSuite, PublicKey: []byte("p")}, nil
}

func (k *twinKMS) OpenCMEKRotation(_ context.Context, o kmsapi.OpenCMEKRotation) (string, error) {
	return call(k, "OpenCMEKRotation", func() (string, error) {
		old, err := cmek.NewKey(o.Old)
		if err != nil || old.Fingerprint() != o.OldFingerprint {
			return "", fault.New(fault.Invalid, "not the old key").WithType(kmsapi.TypeCMEKOldKey)
		}
		fresh, err := cmek.NewKey(o.New)
		if err != nil || fresh.Fingerprint() != o.NewFingerprint {
			return "", fault.New(fault.Invalid, "not the new key").WithType(kmsapi.TypeCMEKNewKey)
		}
		if o.NewKeyCheck != "" && !cmek.CheckMatches(fresh, o.Vault, o.NewKeyCheck) {
			return "", fault.New(fault.Invalid, "not the new key's check").WithType(kmsapi.TypeCMEKKeyCheck)
		}
		k.made++
		id := fmt.Sprint("session-", k.made)
		k.sessions[id] = twinSession{o.Vault, old, fresh}
		return id, nil
	})
}

func (k *twinKMS) CMEKRotationAlive(ctx context.Context, session string) (bool, error) {
	if k.hangs.Load() {
		<-ctx.Done()
		return false, fault.Wrap(fault.Unavailable, ctx.Err(), "no answer")
	}
	return call(k, "CMEKRotationAlive", func() (bool, error) { _, ok := k.sessions[session]; return ok, nil })
}

func (k *twinKMS) CloseCMEKRotation(_ context.Context, session string) error {
	_, err := call(k, "CloseCMEKRotation", func() (struct{}, error) { delete(k.sessions, session); return struct{}{}, nil })
	return err
}

func (k *twinKMS) Reencrypt(_ context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	return call(k, "Reencrypt", func() (out []kmsapi.ReencryptResult, err error) {
		s, ok := k.sessions[session]
		if !ok {
			return nil, fault.New(fault.NotFound, "no such session").WithType(kmsapi.TypeCMEKSessionGone)
		}
		for _, it := range items {
			out = append(out, k.reencrypt(s, it))
		}
		if k.reencrypts != nil {
			out = k.reencrypts(out)
		}
		return out, nil
	})
}

func (k *twinKMS) reencrypt(s twinSession, it kmsapi.ReencryptItem) (res kmsapi.ReencryptResult) {
	blob, err := k.openOne(it.Envelope, it.AAD)
	if err != nil {
		return kmsapi.ReencryptResult{Err: err}
	}
	at := cmek.Context{VaultID: s.vault, Path: it.Path}
	value, err := cmek.ReencryptValueAt(s.old, s.fresh, at, string(blob))
	res.Opened = kmsapi.OpenedOld
	if err != nil {
		_, err = cmek.DecryptValueAt(s.fresh, at, string(blob))
		value, res.Opened = string(blob), kmsapi.OpenedNew
	}
	if err != nil {
		return kmsapi.ReencryptResult{Err: fault.New(fault.Unopenable, "opens with neither").WithType(kmsapi.TypeCMEKNeitherKey)}
	}
	res.Envelope, res.Err = k.sealOne(it.Envelope.KEKID, []byte(value), it.NewAAD)
	return res
}
