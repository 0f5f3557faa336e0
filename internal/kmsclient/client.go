// Package kmsclient is the KMS for a process that holds no keys: the methods of
// kms.Service over a Unix socket or mutual TLS.
//
// It coalesces. For each item call but those of CMEK rotations, while one is on its way, new ones wait and
// then leave together; when none is, a call leaves at once. Behind a big one
// nobody waits, up to Config.InFlight. Who shared a call knows nothing of it: items fail alone, and a
// context ends its own caller's wait only.
//
// It sends again what certainly was not sent, for Config.Retry, and what has no
// lasting effect also when the answer was lost. RotateKEK, DestroyKEKVersion,
// ShredDEK, OpenCMEKRotation and the making and deleting of customers' keys are
// never sent twice once a byte may have left. CreateDEK is, to another address
// alone: what the first one made then is a DEK that nobody knows.
// While the KMS is known to be down, calls try each address once and fail with
// fault.Unavailable.
//
// Several key processes on one store are a list of addresses (see places.go). All
// calls go to one of them; when it dies, says nothing for half a second, or cannot
// work while another can, they go to another. What lives in the memory of one, the sessions of CMEK rotations, is
// asked for there and nowhere else (see homes.go).
//
// It trusts the KMS to use the keys that it names, and not the shape of its
// answers: what does not match the request is fault.Internal, never data.
// Nothing survives a crash of the process, since nothing is stored.
//
// Requests and answers lie in buffers that are wiped. Not wiped are the buffers
// in which net/http and crypto/tls read answers, of fixed size, which later calls
// write over, and the plaintexts that Decrypt and Open return, which are the
// caller's.
package kmsclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// Config says where the KMS is. Zero values mean the stated default.
type Config struct {
	Endpoint string        // unix:///path/of/socket or https://host:port, or several, separated by commas
	TLS      *TLS          // for https
	Retry    time.Duration // 1s; so long a call looks for a KMS that is not known to be down
	InFlight int           // 4; calls of one method on their way at one time, while they are big
	Log      *slog.Logger  // nil: no log
	// Observe hears of every batch of item calls that had its answer, or none. nil:
	// nobody does.
	Observe func(Batch)

	missesAlive int // for tests; see places.go
}

// Batch is one request of item calls.
type Batch struct {
	Method  string // "encrypt"
	Items   int
	Callers int // whose calls it joins
	Took    time.Duration
	Err     error // of the whole; items that failed are none
}

// MaxWait bounds the wait for one answer to item calls, whatever their callers'
// contexts say; then the KMS is known to be down, and downWait does. A KMS that
// hangs so leaves its callers the time to do without it.
const (
	MaxWait  = 10 * time.Second
	downWait = 2 * time.Second
)

// Client is the KMS at a distance. It may be used by many goroutines.
type Client struct {
	places   []*place
	homes    homes
	retry    time.Duration
	inFlight int
	log      *slog.Logger
	observe  func(Batch)
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	maxWait  time.Duration
	downWait time.Duration
	down     atomic.Bool // the KMS did not answer for Config.Retry or MaxWait, and has not since

	missesAlive int
	state       sync.Mutex // guards what is known of places

	mu      sync.Mutex // held while ctx ends, and while running grows
	running sync.WaitGroup

	createKEK *queue[kmsapi.CreateKEKItem, kmsapi.CreateKEKResult]
	createDEK *queue[kmsapi.CreateDEKItem, kmsapi.CreateDEKResult]
	encrypt   *queue[kmsapi.EncryptItem, kmsapi.EncryptResult]
	decrypt   *queue[kmsapi.DecryptItem, kmsapi.DecryptResult]
	seal      *queue[kmsapi.SealItem, kmsapi.SealResult]
	open      *queue[kmsapi.OpenItem, kmsapi.OpenResult]
	rewrap    *queue[kmsapi.RewrapItem, kmsapi.RewrapResult]
}

// New makes a client. It does not connect: calls do. It fails with
// fault.Invalid when cfg is not complete.
func New(cfg Config) (*Client, error) {
	c := &Client{retry: cfg.Retry, inFlight: cfg.InFlight, log: cfg.Log, observe: cfg.Observe, maxWait: MaxWait, downWait: downWait, missesAlive: cmp.Or(cfg.missesAlive, missesAlive)}
	if c.retry == 0 {
		c.retry = time.Second
	}
	if c.inFlight == 0 {
		c.inFlight = 4
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.retry < 0 || c.inFlight < 0 {
		return nil, fault.New(fault.Invalid, "KMS client: Retry and InFlight are not negative")
	}
	var err error
	if c.places, err = newPlaces(c, cfg.Endpoint, cfg.TLS); err != nil {
		return nil, err
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.createKEK = newQueue(c, kmsapi.CreateKEK, again, createdKEK)
	c.createDEK = newQueue(c, kmsapi.CreateDEK, spare, createdDEK)
	c.encrypt = newQueue(c, kmsapi.Encrypt, again, encrypted)
	c.decrypt = newQueue(c, kmsapi.Decrypt, again, decrypted)
	c.seal = newQueue(c, kmsapi.Seal, again, sealed)
	c.open = newQueue(c, kmsapi.Open, again, opened)
	c.rewrap = newQueue(c, kmsapi.Rewrap, again, rewrapped)
	for _, p := range c.places {
		p.live()
	}
	if len(c.places) > 1 {
		for _, p := range c.places {
			c.goRun(func() { c.watch(p) })
			c.goRun(func() { c.watchReady(p) })
		}
	}
	return c, nil
}

// connectTo decides how p is reached.
func (p *place) connectTo(c *Client, endpoint string, files *TLS) error {
	path, isUnix := strings.CutPrefix(endpoint, "unix://")
	if isUnix {
		if !strings.HasPrefix(path, "/") {
			return fault.New(fault.Invalid, "the KMS endpoint %q is not unix:///path/of/socket", endpoint)
		}
		p.base = url.URL{Scheme: "http", Host: "kms"}
		p.wires.current.Store(c.newWire("unix", path, nil))
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Port() == "" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return fault.New(fault.Invalid, "the KMS endpoint is neither unix:///path/of/socket nor https://host:port")
	}
	if files == nil {
		return fault.New(fault.Invalid, "a KMS at https:// needs a certificate, its key and a CA")
	}
	p.base = url.URL{Scheme: "https", Host: u.Host}
	p.wires.files = files
	p.wires.make = func(t *tls.Config) *straight { return c.newWire("tcp", u.Host, t) }
	return p.wires.load()
}

func (c *Client) newWire(network, address string, t *tls.Config) *straight {
	d := net.Dialer{Timeout: max(c.retry, time.Second)}
	if host, _, err := net.SplitHostPort(address); t != nil && err == nil {
		t = t.Clone()
		t.ServerName = host
	}
	return &straight{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &countedConn{Conn: conn}, nil
		},
		tls:       t,
		handshake: max(c.retry, time.Second),
	}
}

// wireBuffer is the size of a connection's buffers: most batches in one piece.
const wireBuffer = 64 << 10

// goRun runs f in a goroutine that Close waits for. It reports whether there is
// one: not after Close.
func (c *Client) goRun(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.running.Go(f)
	return true
}

// untilClose is ctx, of cancel, that Close ends as well. The caller ends it.
func (c *Client) untilClose(ctx context.Context, cancel context.CancelFunc) (context.Context, context.CancelFunc) {
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Close ends all calls with fault.Unavailable and waits until they have ended.
func (c *Client) Close() {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.running.Wait()
	for _, p := range c.places {
		p.wires.close()
		p.end()
	}
}
