package kmsserver

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// maxSmall bounds the bodies of calls that name one key, in bytes.
const maxSmall = 64 << 10

// rows is the table of all routes, with the role that each asks for.
func (s *Server) rows() []httpx.Row {
	k := s.cfg.KMS
	life := keylife{k}
	return append(s.cmekRows(), []httpx.Row{
		item(s, kmsapi.CreateKEK, createKEKs(k), nil),
		item(s, kmsapi.CreateDEK, k.CreateDEK, nil),
		item(s, kmsapi.Encrypt, k.Encrypt, nil),
		item(s, kmsapi.Decrypt, k.Decrypt, kmsapi.Decrypt.WipeResults),
		item(s, kmsapi.Seal, k.Seal, nil),
		item(s, kmsapi.Open, k.Open, kmsapi.Open.WipeResults),
		item(s, kmsapi.Rewrap, k.Rewrap, nil),
		{Method: "GET", Pattern: "/get_wrapped", Who: crypto, Handler: httpx.NoBody(http.StatusOK, life.wrapped)},
		{Method: "POST", Pattern: "/release_kek", Who: crypto, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusOK, life.release)},

		{Method: "POST", Pattern: "/cmek_rotation_key", Who: crypto, MaxBody: maxSmall, Handler: httpx.NoBody(http.StatusOK, life.cmekRotationKey)},
		small(item(s, kmsapi.CMEKRotation, openCMEKRotations(k), nil)),
		{Method: "GET", Pattern: "/cmek_rotation/{session}", Who: crypto, Handler: httpx.NoBody(http.StatusOK, life.cmekRotationAlive)},
		{Method: "DELETE", Pattern: "/cmek_rotation/{session}", Who: crypto, Handler: httpx.NoBody(http.StatusOK, life.closeCMEKRotation)},
		{Method: "POST", Pattern: kmsapi.Reencrypt.Path, MaxBody: kmsapi.MaxBody, Timeout: time.Minute, Who: crypto, Handler: s.reencrypt},

		{Method: "GET", Pattern: "/list_keks", Who: lists, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, life.list)},
		{Method: "POST", Pattern: "/list_deks", Who: lists, MaxBody: kmsapi.MaxBody, Strict: true, Timeout: time.Minute, Handler: jsonBody(http.StatusOK, life.listDEKs)},
		{Method: "GET", Pattern: "/keys", Who: admin, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, life.keys)},
		{Method: "POST", Pattern: "/rotate_kek", Who: admin, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusAccepted, life.rotate)},
		{Method: "POST", Pattern: "/import_kek", Who: admin, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusAccepted, life.importKEK)},
		{Method: "POST", Pattern: "/destroy_kek_version", Who: admin, MaxBody: maxSmall, Strict: true, Timeout: time.Minute, Handler: jsonBody(http.StatusOK, life.destroy)},
		{Method: "POST", Pattern: "/shred_dek", Who: shred, MaxBody: maxSmall, Strict: true, Handler: jsonBody(http.StatusOK, life.shred)},
		{Method: "GET", Pattern: "/jobs", Who: admin, Handler: httpx.NoBody(http.StatusOK, life.jobs)},
		{Method: "GET", Pattern: "/jobs/{job}", Who: admin, Handler: httpx.NoBody(http.StatusOK, life.job)},
		{Method: "DELETE", Pattern: "/jobs/{job}", Who: admin, Handler: httpx.NoBody(http.StatusOK, life.cancel)},
		{Method: "GET", Pattern: "/status", Who: admin, Handler: httpx.NoBody(http.StatusOK, s.status)},
		{Method: "GET", Pattern: "/export_breakglass", Who: admin, Handler: s.exportBreakGlass},
		{Method: "GET", Pattern: "/backup", Who: admin, Timeout: time.Hour, Handler: httpx.Stream(octets, s.backup)},

		{Method: "GET", Pattern: "/healthz", Who: listed, Timeout: 5 * time.Second, Handler: s.healthz},
		{Method: "GET", Pattern: "/livez", Who: listed, Timeout: 5 * time.Second, Handler: livez},
		{Method: "GET", Pattern: "/readyz", Who: listed, Timeout: 5 * time.Second, Handler: s.readyz},
		{Method: "GET", Pattern: "/metrics", Who: watch, Handler: s.metrics.answer},
	}...)
}

// small is row with bodies of calls that name one thing.
func small(row httpx.Row) httpx.Row {
	row.MaxBody = maxSmall
	return row
}

var (
	octets = httpx.ContentType{"application/octet-stream"}
	plain  = httpx.ContentType{"text/plain; charset=utf-8"}
)

// healthz answers ok while the KMS can work: unlocked, and its store answers.
func (s *Server) healthz(ctx context.Context, c *httpx.Call) error {
	if err := s.cfg.KMS.Check(ctx); err != nil {
		return err
	}
	c.Send(http.StatusOK, plain, []byte("ok"))
	return nil
}

// livez answers ok while the process runs. It asks for nothing that could keep it.
func livez(_ context.Context, c *httpx.Call) error {
	c.Send(http.StatusOK, plain, []byte("ok"))
	return nil
}

// readyz answers as healthz does, but for a process that is about to close.
func (s *Server) readyz(ctx context.Context, c *httpx.Call) error {
	if s.closing.Load() {
		return fault.New(fault.Unavailable, "this KMS is closing; ask another one, or try again")
	}
	return s.healthz(ctx, c)
}

func (s *Server) status(context.Context, *httpx.Call) (kmsapi.Status, error) {
	if s.cfg.Status == nil {
		return kmsapi.Status{}, fault.New(fault.NotFound, "this KMS does not describe itself")
	}
	return s.cfg.Status(), nil
}

// exportBreakGlass answers the keyring row of the threads' KEK, wrapped.
func (s *Server) exportBreakGlass(ctx context.Context, c *httpx.Call) error {
	text, err := s.cfg.KMS.ExportBreakGlass(actor(ctx, c))
	if err != nil {
		return err
	}
	c.Send(http.StatusOK, octets, text)
	return nil
}

func (s *Server) backup(ctx context.Context, c *httpx.Call, w io.Writer) error {
	if s.cfg.Backup == nil {
		return fault.New(fault.NotFound, "this KMS makes no backups over the wire")
	}
	return s.cfg.Backup(actor(ctx, c), w)
}

// createKEKs is KMS.CreateKEK as an item call: all or nothing.
func createKEKs(k KMS) func(context.Context, []kmsapi.CreateKEKItem) ([]kmsapi.CreateKEKResult, error) {
	return func(ctx context.Context, items []kmsapi.CreateKEKItem) ([]kmsapi.CreateKEKResult, error) {
		ids := make([]string, len(items))
		for i, item := range items {
			ids[i] = item.KEKID
		}
		infos, err := k.CreateKEK(ctx, ids)
		if err != nil {
			return nil, err
		}
		out := make([]kmsapi.CreateKEKResult, len(infos))
		for i, info := range infos {
			out[i].KEKInfo = info
		}
		return out, nil
	}
}
