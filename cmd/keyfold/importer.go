package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
)

// importWorkers is how many secrets are compared and written at once.
const importWorkers = 16

// What became of one item. The zero state is "not reached".
type state int

const (
	stateLeft state = iota
	stateWritten
	stateUnchanged
	stateSkipped
	stateFailed
)

type result struct {
	state  state
	reason string // of skipped and failed
}

// importer writes values that a vault does not have yet.
type importer struct {
	c          *client.Client
	vault      string
	kind       string // the metadata member that keeps an item's name
	secretType string
	key        client.KeySource // of c
	unsealed   bool             // write to an open vault though there is a key

	sealed   bool
	existing map[string]api.SecretMetadata // by path
}

// prepare learns what the vault has.
func (im *importer) prepare(ctx context.Context, prefix string) error {
	v, err := im.c.GetVault(ctx, im.vault)
	if err != nil {
		return err
	}
	im.sealed = v.CMEKEnabled
	if err := im.mayWrite(ctx); err != nil {
		return err
	}
	secrets, err := im.c.List(ctx, im.vault, strings.Trim(prefix, "/"))
	if err != nil {
		return err
	}
	im.existing = make(map[string]api.SecretMetadata, len(secrets))
	for _, s := range secrets {
		im.existing[s.Path] = s
	}
	return nil
}

// mayWrite tells before anything is compared what every write would meet.
func (im *importer) mayWrite(ctx context.Context) error {
	if im.sealed || im.unsealed {
		return nil
	}
	k, err := im.key(ctx, "")
	if err == nil && k != nil {
		err = client.ErrNotSealed
	}
	return err
}

// one imports it. An error stops the whole import: it would meet every item.
func (im *importer) one(ctx context.Context, it importable) (result, error) {
	value, err := it.read()
	if err != nil {
		return result{stateSkipped, reasonOf(err)}, nil
	}
	if old, ok := im.existing[it.path]; ok {
		if other := nameIn(old.Metadata, im.kind); other != "" && other != it.metadataName() {
			return result{stateSkipped, fmt.Sprintf("its path %s is taken by %q", it.path, other)}, nil
		}
		same, err := im.unchanged(ctx, it.path, value)
		if err != nil {
			return im.judge(err)
		}
		if same {
			return result{state: stateUnchanged}, nil
		}
	}
	_, err = im.c.Put(ctx, im.vault, it.path, value, client.PutOptions{
		Type: im.secretType, Metadata: map[string]any{im.kind: it.metadataName()}, AllowUnsealed: im.unsealed,
	})
	if err != nil {
		return im.judge(err)
	}
	return result{state: stateWritten}, nil
}

// unchanged reports whether the newest version holds value as a write would
// store it now. A version that cannot be read, or not with the key at hand, is
// not: a new one can.
func (im *importer) unchanged(ctx context.Context, path string, value []byte) (bool, error) {
	s, err := im.c.Get(ctx, im.vault, path)
	if err != nil {
		if key, ok := errors.AsType[*client.KeyError](err); ok && key.Given != "" {
			return false, nil
		}
		if client.IsGone(err) || client.IsNotFound(err) || errors.Is(err, cmek.ErrDecrypt) {
			return false, nil
		}
		return false, err
	}
	return s.CMEKEncrypted == im.sealed && bytes.Equal(s.Value, value), nil
}

// judge tells an error of one item from one that would meet all.
func (im *importer) judge(err error) (result, error) {
	if e, ok := errors.AsType[*client.Error](err); ok {
		switch e.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge:
			return result{stateFailed, e.Detail}, nil
		}
	}
	return result{}, err
}

// metadataName is the name as JSON can hold it.
func (it importable) metadataName() string { return strings.ToValidUTF8(it.name, "\ufffd") }

func nameIn(metadata json.RawMessage, member string) string {
	var m map[string]any
	if json.Unmarshal(metadata, &m) != nil {
		return ""
	}
	name, _ := m[member].(string)
	return name
}

// reasonOf is an error of the file system without the path, which is told beside it.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
