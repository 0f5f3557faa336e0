package main

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/throttle"
	"github.com/keyfold/keyfold/web"
)

// serverSettings is the configuration file of keyfold server, and what the
// environment puts over it; docs/server.md has the table. Paths that are not
// absolute begin where the command runs.
type serverSettings struct {
	Addr      string `yaml:"addr" env:"KEYFOLD_ADDR"`
	PublicURL string `yaml:"public_url" env:"KEYFOLD_PUBLIC_URL"`
	TLS       struct {
		Cert string `yaml:"cert" env:"KEYFOLD_TLS_CERT"`
		Key  string `yaml:"key" env:"KEYFOLD_TLS_KEY"`
	} `yaml:"tls"`
	Data  string        `yaml:"data" env:"KEYFOLD_DATA"`
	Store config.Secret `yaml:"store" env:"KEYFOLD_STORE"` // a URL may hold a password
	KMS   struct {
		URL  string `yaml:"url" env:"KEYFOLD_KMS"`
		Cert string `yaml:"cert" env:"KEYFOLD_KMS_CERT"`
		Key  string `yaml:"key" env:"KEYFOLD_KMS_KEY"`
		CA   string `yaml:"ca" env:"KEYFOLD_KMS_CA"`
	} `yaml:"kms"`
	BreakGlass struct {
		Root    string `yaml:"root" env:"KEYFOLD_BREAKGLASS_ROOT"`
		Keyring string `yaml:"keyring" env:"KEYFOLD_BREAKGLASS_KEYRING"`
	} `yaml:"breakglass"`
	Encryption  encryption `yaml:"encryption" env:"KEYFOLD_ENCRYPTION"`
	SignUp      string     `yaml:"sign_up" env:"KEYFOLD_SIGN_UP"`
	DefaultPlan string     `yaml:"default_plan" env:"KEYFOLD_DEFAULT_PLAN"`
	Retention   struct {
		Every time.Duration `yaml:"every" env:"KEYFOLD_RETENTION_EVERY"`
	} `yaml:"retention"`
	MaxAge struct {
		KEK  age `yaml:"kek" env:"KEYFOLD_KEK_MAX_AGE"`
		DEK  age `yaml:"dek" env:"KEYFOLD_DEK_MAX_AGE"`
		CMEK age `yaml:"cmek" env:"KEYFOLD_CMEK_MAX_AGE"`
	} `yaml:"max_age"`
	Proxies struct {
		Trusted []network `yaml:"trusted" env:"KEYFOLD_PROXIES"`
		Header  string    `yaml:"header" env:"KEYFOLD_PROXY_HEADER"`
	} `yaml:"proxies"`
	Limits struct {
		Principal rate `yaml:"principal" env:"KEYFOLD_LIMIT_PRINCIPAL"`
		Address   rate `yaml:"address" env:"KEYFOLD_LIMIT_ADDRESS"`
	} `yaml:"limits"`
	Drain       drain    `yaml:"drain" env:"KEYFOLD_DRAIN"`
	CORSOrigins []string `yaml:"cors_origins" env:"KEYFOLD_CORS_ORIGINS"`
	Dashboard   onOff    `yaml:"dashboard" env:"KEYFOLD_DASHBOARD"`
	Metrics     struct {
		Token config.Secret `yaml:"token" env:"KEYFOLD_METRICS_TOKEN"`
	} `yaml:"metrics"`
	Log cli.Log `yaml:"log" env:"KEYFOLD_LOG"`
}

const xForwardedFor = "X-Forwarded-For"

// defaultRetention is how often retention runs where nothing is said.
const defaultRetention = time.Hour

// defaultMaxAge is after how long keys are due to be rotated where nothing is said.
const defaultMaxAge = age(365 * day)

// defaultSettings is what counts where nothing is said. Where the keys and the
// data are has no default.
func defaultSettings() (s serverSettings) {
	s.Addr, s.Encryption, s.Dashboard = "127.0.0.1:7420", true, true
	s.SignUp, s.DefaultPlan = string(identity.SignUpInvited), string(access.Enterprise)
	s.Retention.Every = defaultRetention
	s.MaxAge.KEK, s.MaxAge.DEK, s.MaxAge.CMEK = defaultMaxAge, defaultMaxAge, defaultMaxAge
	s.Proxies.Header = xForwardedFor
	s.Limits.Principal, s.Limits.Address = rate{PerSecond: 200, Burst: 400}, rate{PerSecond: 50, Burst: 100}
	return s
}

// loadSettings reads file, "" for none, and the environment. Its error holds a
// line for each mistake; what they leave alone is set.
func (a *app) loadSettings(file string) (serverSettings, error) {
	s := defaultSettings()
	err := config.Load(&s, file, a.getenv)
	return s, err
}

// store is the store that the settings name; none: it is in the data directory, or
// the settings are wrong.
func (s serverSettings) store() storespec.Spec {
	spec, _ := storespec.Parse(string(s.Store))
	return spec
}

// storePlace is where the store is, for people.
func (s serverSettings) storePlace() string {
	return s.store().Or(storespec.InDir(filepath.Join(s.Data, "server"))).String()
}

// config is what s assembles.
func (s serverSettings) config() allinone.Config {
	c := allinone.Config{
		DataDir: s.Data, Store: s.store(), KMSURL: s.KMS.URL,
		BreakGlass: allinone.BreakGlass{RootFile: s.BreakGlass.Root, KeyringFile: s.BreakGlass.Keyring},
		SignUp:     identity.SignUp(s.SignUp), DefaultPlan: access.Plan(s.DefaultPlan), PublicURL: s.PublicURL,
		Proxies:     httpx.Proxies{Header: s.Proxies.Header},
		Limits:      httpx.Limits{Principal: throttle.Rate(s.Limits.Principal), Address: throttle.Rate(s.Limits.Address)},
		CORSOrigins: s.CORSOrigins, Version: cli.Version(), Retention: s.Retention.Every, MaxAge: s.maxAge(), Plain: bool(!s.Encryption),
	}
	if s.Dashboard {
		c.Dashboard = web.FS()
	}
	if s.Metrics.Token != "" {
		sum := sha256.Sum256([]byte(s.Metrics.Token))
		c.Scrape = &sum
	}
	if s.kmsHasTLS() {
		c.KMSTLS = allinone.TLSFiles{Cert: s.KMS.Cert, Key: s.KMS.Key, CA: s.KMS.CA}
	}
	for _, n := range s.Proxies.Trusted {
		c.Proxies.Trusted = append(c.Proxies.Trusted, netip.Prefix(n))
	}
	return c
}

func (s serverSettings) maxAge() api.KeyAges {
	seconds := func(a age) int64 { return int64(time.Duration(a) / time.Second) }
	return api.KeyAges{KEK: seconds(s.MaxAge.KEK), DEK: seconds(s.MaxAge.DEK), CMEK: seconds(s.MaxAge.CMEK)}
}

func (s serverSettings) embedded() bool  { return s.KMS.URL == allinone.Embedded }
func (s serverSettings) kmsHasTLS() bool { return kmsHasTLS(s.KMS.URL) }

// kmsHasTLS reports whether a list of key processes has one at https://.
func kmsHasTLS(list string) bool {
	return slices.ContainsFunc(kmsclient.Endpoints(list), func(address string) bool { return strings.HasPrefix(address, "https://") })
}

// url is where clients on this machine find what listens at addr.
func (s serverSettings) url(addr string) string {
	if s.TLS.Cert == "" {
		return "http://" + addr
	}
	return "https://" + addr
}

const day = 24 * time.Hour

// age is how old a key may become: "365d", "12h", or "0" for any age.
type age time.Duration

// UnmarshalText reads days, or a duration of a second or more, or 0.
func (a *age) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	}
	if err != nil || d != 0 && d < time.Second {
		return errors.New("write days, such as 365d, a duration such as 12h, or 0 for any age")
	}
	*a = age(d)
	return nil
}

// drain is for how long a server that is to end says so before it does.
type drain time.Duration

// UnmarshalText reads a duration of at most a minute, or 0.
func (d *drain) UnmarshalText(text []byte) error {
	t, err := time.ParseDuration(string(text))
	if err != nil || t < 0 || t > time.Minute {
		return errors.New("write a duration of at most a minute, such as 10s, or 0")
	}
	*d = drain(t)
	return nil
}

// encryption says whether messages are encrypted: "on" or "off".
type encryption bool

// UnmarshalText reads on or off and nothing else.
func (e *encryption) UnmarshalText(text []byte) error {
	switch string(text) {
	case "on":
		*e = true
	case "off":
		*e = false
	default:
		return errors.New("write on, or off to have messages of new threads stored in clear")
	}
	return nil
}

func (e encryption) String() string {
	if e {
		return "on"
	}
	return "off"
}

// onOff is "on" or "off".
type onOff bool

// UnmarshalText reads on or off and nothing else.
func (o *onOff) UnmarshalText(text []byte) error {
	if s := string(text); s != "on" && s != "off" {
		return errors.New("write on or off")
	}
	*o = string(text) == "on"
	return nil
}

// network is an address, or a network as CIDR: "10.0.0.7", "10.0.0.0/8".
type network netip.Prefix

// UnmarshalText reads a network.
func (n *network) UnmarshalText(text []byte) error {
	p, err := netip.ParsePrefix(string(text))
	if a, addrErr := netip.ParseAddr(string(text)); err != nil && addrErr == nil {
		p, err = a.Prefix(a.BitLen())
	}
	if err != nil || p.Addr().Is4In6() {
		return errors.New("write an address or a network, such as 10.0.0.7 or 10.0.0.0/8")
	}
	*n = network(p.Masked())
	return nil
}

// rate is how many calls, and how many at once after a rest: "200/s", "30/m",
// "200/s burst 400", or "none" for no limit.
type rate throttle.Rate

// UnmarshalText reads a rate.
func (r *rate) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*r = rate{}
		return nil
	}
	calls, burst, hasBurst := strings.Cut(string(text), " burst ")
	calls, per, _ := strings.Cut(calls, "/")
	n, err := strconv.ParseUint(calls, 10, 31)
	var out rate
	switch per {
	case "s":
		out.PerSecond = float64(n)
	case "m":
		out.PerSecond = float64(n) / 60
	}
	if hasBurst && err == nil {
		out.Burst, err = strconv.Atoi(burst)
	}
	if err != nil || out.PerSecond == 0 || hasBurst && out.Burst < 1 {
		return errors.New(`write calls per second or minute, such as 200/s, 30/m or "200/s burst 400", or none`)
	}
	*r = out
	return nil
}
