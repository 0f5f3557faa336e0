package kmsserver

import (
	"context"
	"net/http"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// CMEKKeys is the part of a KMS that keeps customers' keys: see kms.Service.
// caller is who uses a key, as audit records name it: grants are to that name.
// CMEKOpen's plaintexts and ImportCMEKKey's raw key are the caller's to wipe.
type CMEKKeys interface {
	CMEKSeal(ctx context.Context, caller string, items []kmsapi.CMEKSealItem) ([]kmsapi.CMEKSealResult, error)
	CMEKOpen(ctx context.Context, caller string, items []kmsapi.CMEKOpenItem) ([]kmsapi.CMEKOpenResult, error)

	CreateCMEKKey(ctx context.Context, name string) (kmsapi.CMEKKey, error)
	ImportCMEKKey(ctx context.Context, name string, raw []byte) (kmsapi.CMEKKey, error)
	CMEKKeys(ctx context.Context, after string) (kmsapi.CMEKKeys, error)
	GrantCMEKKey(ctx context.Context, fingerprint, caller string) error
	RevokeCMEKKey(ctx context.Context, fingerprint, caller string) error
	DeleteCMEKKey(ctx context.Context, fingerprint string) error
}

// cmekRows are the routes of customers' keys.
func (s *Server) cmekRows() []httpx.Row {
	return []httpx.Row{
		itemAs(s, kmsapi.CMEKSeal, s.cfg.KMS.CMEKSeal, nil),
		itemAs(s, kmsapi.CMEKOpen, s.cfg.KMS.CMEKOpen, kmsapi.CMEKOpen.WipeResults),

		{Method: "GET", Pattern: "/cmek_keys", Who: admin, Handler: httpx.NoBody(http.StatusOK, s.cmekKeys)},
		{Method: "POST", Pattern: "/cmek_keys", Who: admin, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusOK, s.addCMEKKey)},
		{Method: "DELETE", Pattern: "/cmek_keys/{fingerprint}", Who: admin, Handler: httpx.NoBody(http.StatusOK, s.deleteCMEKKey)},
		{Method: "POST", Pattern: "/cmek_grant", Who: admin, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusOK, s.grantCMEKKey)},
		{Method: "POST", Pattern: "/cmek_revoke", Who: admin, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusOK, s.revokeCMEKKey)},
	}
}

// itemAs is item for a call that decides by its caller, of the role cmek.
func itemAs[In, Out any](s *Server, call kmsapi.Call[In, Out], do func(context.Context, string, []In) ([]Out, error), wipe func([]Out)) httpx.Row {
	row := item(s, call, nil, nil)
	row.Who = cmek
	row.Handler = func(ctx context.Context, c *httpx.Call) error {
		return answerItems(ctx, c, s, call, func(ctx context.Context, items []In) ([]Out, error) {
			return do(ctx, c.Principal.Ref(), items)
		}, wipe)
	}
	return row
}

// Bodies of requests.
type (
	addCMEKKey struct {
		Name string `json:"name,omitzero"`
		Key  []byte `json:"key,omitzero"` // raw; absent: make one
	}
	cmekGrant struct {
		Fingerprint string `json:"fingerprint"`
		Caller      string `json:"caller"`
	}
)

func (s *Server) cmekKeys(ctx context.Context, c *httpx.Call) (kmsapi.CMEKKeys, error) {
	q, err := c.Query()
	if err != nil {
		return kmsapi.CMEKKeys{}, err
	}
	return s.cfg.KMS.CMEKKeys(actor(ctx, c), q.Get("after"))
}

func (s *Server) addCMEKKey(ctx context.Context, _ *httpx.Call, in addCMEKKey) (kmsapi.CMEKKey, error) {
	if in.Key == nil {
		return s.cfg.KMS.CreateCMEKKey(ctx, in.Name)
	}
	defer clear(in.Key)
	return s.cfg.KMS.ImportCMEKKey(ctx, in.Name, in.Key)
}

func (s *Server) deleteCMEKKey(ctx context.Context, c *httpx.Call) (done, error) {
	return done{}, s.cfg.KMS.DeleteCMEKKey(actor(ctx, c), c.Param("fingerprint"))
}

// grantCMEKKey refuses a caller who could not call: a grant that lies in wait
// for whoever gets that name is none that somebody meant.
func (s *Server) grantCMEKKey(ctx context.Context, _ *httpx.Call, in cmekGrant) (done, error) {
	if err := in.check(); err != nil {
		return done{}, err
	}
	if k := s.callers[principalOf(in.Caller)]; k == nil || k.roles&CMEK == 0 {
		return done{}, fault.New(fault.Invalid, "%q is not in the list of callers with the role cmek; put it there, start the key process again, then grant", in.Caller)
	}
	return done{}, s.cfg.KMS.GrantCMEKKey(ctx, in.Fingerprint, in.Caller)
}

func (s *Server) revokeCMEKKey(ctx context.Context, _ *httpx.Call, in cmekGrant) (done, error) {
	if err := in.check(); err != nil {
		return done{}, err
	}
	return done{}, s.cfg.KMS.RevokeCMEKKey(ctx, in.Fingerprint, in.Caller)
}

func (g cmekGrant) check() error {
	switch "" {
	case g.Fingerprint:
		return missing("fingerprint")
	case g.Caller:
		return missing("caller")
	}
	return nil
}

// principalOf is the inverse of access.Principal.Ref for callers.
func principalOf(ref string) access.Principal {
	kind, id, _ := strings.Cut(ref, ":")
	return access.Principal{Kind: access.Kind(kind), ID: id}
}
