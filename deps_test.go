// The drawing of Keyfold's rooms as a test: who may import whom. Change this
// list, docs/architecture.md and the code in one commit.
package keyfold

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/keyfold/keyfold"

// room is one package: its floor, what it imports of ours, and what it imports
// of others beyond the standard library. Both lists are exact: an import that
// is not listed fails the test, and so does an entry that is not imported.
type room struct {
	floor  int
	ours   string
	others string
}

// rooms lists every package of the module. A package may import only rooms of
// lower floors.
var rooms = map[string]room{
	"cmek/internal/fields":     {floor: 0},
	"cmek/internal/genvectors": {floor: 0},
	"internal/aead":            {floor: 0},
	"internal/cachestat":       {floor: 0, others: "github.com/prometheus/client_golang/prometheus"},
	"internal/cli":             {floor: 0, others: "github.com/schollz/progressbar/v3 github.com/spf13/cobra golang.org/x/term"},
	"internal/cli/clitest":     {floor: 0, others: "github.com/spf13/cobra"},
	"internal/config":          {floor: 0, others: "go.yaml.in/yaml/v4"},
	"internal/fault":           {floor: 0},
	"internal/freeport":        {floor: 0},
	"internal/harden":          {floor: 0, others: "golang.org/x/sys/unix"},
	"internal/keymetrics":      {floor: 0, others: "github.com/prometheus/client_golang/prometheus"},
	"internal/layout":          {floor: 0},
	"internal/openapi":         {floor: 0},
	"internal/password":        {floor: 0, others: "golang.org/x/crypto/argon2"},
	"internal/private":         {floor: 0},
	"internal/recent":          {floor: 0},
	"web":                      {floor: 0},

	"api":                           {floor: 1},
	"cmek":                          {floor: 1, ours: "internal/aead"},
	"internal/access":               {floor: 1, ours: "internal/fault", others: jsonv2},
	"internal/audit":                {floor: 1, ours: "internal/fault internal/private"},
	"internal/keyring":              {floor: 1, ours: "internal/aead internal/fault internal/private"},
	"internal/kmsapi":               {floor: 1, ours: "internal/fault", others: jsonv2 + " " + "google.golang.org/protobuf/encoding/protowire"},
	"internal/store":                {floor: 1, ours: "internal/fault internal/recent"},
	"internal/store/pgstore/pgtest": {floor: 1, ours: "internal/freeport", others: "github.com/jackc/pgx/v5/pgconn"},
	"internal/throttle":             {floor: 1, ours: "internal/recent", others: "golang.org/x/time/rate"},
	"internal/tracing":              {floor: 1, ours: "internal/fault", others: "github.com/go-json-experiment/json go.opentelemetry.io/otel go.opentelemetry.io/otel/attribute go.opentelemetry.io/otel/codes go.opentelemetry.io/otel/propagation go.opentelemetry.io/otel/sdk/resource go.opentelemetry.io/otel/sdk/trace go.opentelemetry.io/otel/trace"},

	"auditcheck":                  {floor: 2, ours: "api"},
	"client":                      {floor: 2, ours: "api cmek"},
	"client/kmskey":               {floor: 2, ours: "cmek"},
	"cmek/keybackup":              {floor: 2, ours: "cmek cmek/internal/fields internal/aead", others: "golang.org/x/crypto/argon2"},
	"cmek/keyshare":               {floor: 2, ours: "cmek cmek/internal/fields internal/aead", others: "github.com/cloudflare/circl/group github.com/cloudflare/circl/secretsharing"},
	"internal/access/accesstest":  {floor: 2, ours: "internal/access"},
	"internal/guard":              {floor: 2, ours: "internal/access internal/fault"},
	"internal/httpx":              {floor: 2, ours: "api internal/access internal/fault internal/throttle internal/tracing", others: jsonv2},
	"internal/idem":               {floor: 2, ours: "api internal/access internal/fault internal/layout internal/store"},
	"internal/job":                {floor: 2, ours: "internal/fault internal/layout internal/store internal/tracing", others: uuid + " " + "github.com/go-json-experiment/json"},
	"internal/keyring/pkcs11root": {floor: 2, ours: "internal/aead internal/fault internal/keyring", others: "github.com/miekg/pkcs11"},
	"internal/keyring/roottest":   {floor: 2, ours: "internal/aead internal/keyring"},
	"internal/kmsclient":          {floor: 2, ours: "internal/fault internal/kmsapi internal/tracing", others: "github.com/go-json-experiment/json"},
	"internal/store/memstore":     {floor: 2, ours: "internal/store"},
	"internal/store/metered":      {floor: 2, ours: "internal/store internal/tracing", others: "github.com/prometheus/client_golang/prometheus"},
	"internal/store/pebblestore":  {floor: 2, ours: "internal/cachestat internal/fault internal/store", others: pebble},
	"internal/store/pgstore":      {floor: 2, ours: "internal/fault internal/store", others: pgx + " " + "golang.org/x/sys/unix"},
	"internal/store/storetest":    {floor: 2, ours: "internal/store", others: "github.com/google/go-cmp/cmp pgregory.net/rapid"},
	"internal/storecopy":          {floor: 2, ours: "internal/fault internal/kmsapi internal/layout internal/store", others: "github.com/go-json-experiment/json"},
	"internal/tally":              {floor: 2, ours: "internal/layout internal/store internal/throttle"},

	"internal/keyring/rootspec":      {floor: 3, ours: "internal/keyring internal/keyring/pkcs11root internal/private", others: "golang.org/x/term"},
	"internal/kms":                   {floor: 3, ours: "cmek internal/aead internal/audit internal/cachestat internal/fault internal/job internal/keyring internal/kmsapi internal/layout internal/store internal/tracing", others: uuid + " " + "github.com/go-json-experiment/json"},
	"internal/policy":                {floor: 3, ours: "api internal/access internal/fault internal/idem internal/layout internal/store", others: jsonv2 + " " + uuid},
	"internal/sealed":                {floor: 3, ours: "internal/aead internal/fault internal/job internal/kmsapi internal/layout internal/store", others: "github.com/go-json-experiment/json"},
	"internal/store/storespec":       {floor: 3, ours: "internal/fault internal/layout internal/store internal/store/pebblestore internal/store/pgstore"},
	"internal/store/storetest/fresh": {floor: 3, ours: "internal/store internal/store/memstore internal/store/pgstore internal/store/pgstore/pgtest"},
	"internal/thread":                {floor: 3, ours: domain + " " + "cmek internal/job internal/tracing", others: jsonv2 + " " + uuid},
	"internal/vault":                 {floor: 3, ours: domain + " " + "cmek internal/job", others: jsonv2 + " " + uuid},

	"internal/breakglass": {floor: 4, ours: "internal/audit internal/keyring internal/kms internal/kmsapi internal/thread"},
	"internal/keylist":    {floor: 4, ours: "api internal/fault internal/kmsapi internal/sealed internal/vault"},
	"internal/kmsbackup":  {floor: 4, ours: "internal/aead internal/fault internal/keyring internal/kms internal/kmsapi internal/layout internal/store internal/store/storespec"},
	"internal/kmsserver":  {floor: 4, ours: "internal/access internal/fault internal/httpx internal/kms internal/kmsapi internal/tracing", others: "github.com/prometheus/client_golang/prometheus github.com/prometheus/client_golang/prometheus/promhttp golang.org/x/sys/unix"},
	"internal/share":      {floor: 4, ours: "api cmek internal/access internal/fault internal/idem internal/layout internal/store internal/vault", others: uuid + " " + "github.com/go-json-experiment/json"},
	"internal/token":      {floor: 4, ours: "api internal/access internal/cachestat internal/fault internal/layout internal/sealed internal/store", others: "github.com/go-json-experiment/json github.com/golang-jwt/jwt/v5"},
	"internal/trail":      {floor: 4, ours: "api auditcheck internal/access internal/fault internal/layout internal/sealed internal/store", others: "github.com/go-json-experiment/json"},

	"internal/identity": {floor: 5, ours: "api internal/access internal/fault internal/idem internal/layout internal/password internal/sealed internal/store internal/token", others: uuid + " " + "github.com/go-json-experiment/json"},
	"internal/kmsnode":  {floor: 5, ours: "internal/audit internal/keymetrics internal/keyring internal/kms internal/kmsapi internal/kmsbackup internal/kmsserver internal/layout internal/store internal/store/metered internal/store/storespec internal/tracing", others: "github.com/prometheus/client_golang/prometheus github.com/prometheus/client_golang/prometheus/collectors"},

	"bench/load":         {floor: 6, ours: "cmek internal/kmsapi internal/kmsclient"},
	"cmd/keyfold-kms":    {floor: 6, ours: "cmek internal/audit internal/cli internal/config internal/fault internal/harden internal/keyring internal/keyring/rootspec internal/kms internal/kmsapi internal/kmsbackup internal/kmsclient internal/kmsnode internal/kmsserver internal/store/storespec internal/tracing", others: "github.com/spf13/cobra"},
	"internal/device":    {floor: 6, ours: "api internal/access internal/fault internal/identity internal/token", others: "github.com/go-json-experiment/json"},
	"internal/passkey":   {floor: 6, ours: "api internal/access internal/fault internal/idem internal/identity internal/layout internal/store internal/token", others: uuid + " " + "github.com/go-json-experiment/json github.com/go-webauthn/webauthn/protocol github.com/go-webauthn/webauthn/webauthn"},
	"scripts/canary":     {floor: 6, ours: "internal/store internal/store/pebblestore"},
	"scripts/flipbyte":   {floor: 6, ours: "internal/store internal/store/pebblestore"},
	"scripts/lines":      {floor: 6},
	"test/demo":          {floor: 6},
	"test/drill":         {floor: 6},
	"test/external":      {floor: 6},
	"test/kmspair":       {floor: 6},
	"test/many":          {floor: 6},
	"test/programs":      {floor: 6},
	"test/observability": {floor: 6},
	"test/rotation":      {floor: 6},

	"internal/generationc": {floor: 7, ours: "api internal/fault internal/httpx internal/idem internal/identity internal/thread", others: jsonv2},

	"internal/server": {floor: 8, ours: "api internal/access internal/device internal/fault internal/generationc internal/httpx internal/idem internal/identity internal/job internal/keylist internal/layout internal/passkey internal/policy internal/sealed internal/share internal/store internal/thread internal/token internal/tracing internal/trail internal/vault", others: "github.com/go-json-experiment/json github.com/prometheus/client_golang/prometheus github.com/prometheus/common/expfmt"},

	"internal/allinone": {floor: 9, ours: domain + " " + "internal/audit internal/breakglass internal/cachestat internal/device internal/guard internal/httpx internal/identity internal/job internal/keylist internal/keymetrics internal/keyring internal/kms internal/kmsclient internal/passkey internal/password internal/policy internal/sealed internal/server internal/share internal/store/memstore internal/store/metered internal/store/storespec internal/tally internal/thread internal/throttle internal/token internal/tracing internal/trail internal/vault", others: "github.com/go-json-experiment/json github.com/prometheus/client_golang/prometheus github.com/prometheus/client_golang/prometheus/collectors"},

	"cmd/keyfold": {floor: 10, ours: "api auditcheck client client/kmskey cmek cmek/keybackup cmek/keyshare internal/access internal/allinone internal/audit internal/breakglass internal/cli internal/config internal/fault internal/harden internal/httpx internal/identity internal/keyring internal/kmsclient internal/password internal/store/storespec internal/storecopy internal/throttle internal/tracing web", others: jsonv2 + " " + uuid + " " + "github.com/spf13/cobra golang.org/x/term"},
	"keyfoldtest": {floor: 10, ours: "internal/access internal/allinone internal/fault internal/identity internal/keyring internal/kms internal/kmsapi internal/kmsserver internal/password internal/store internal/store/memstore internal/store/pebblestore internal/store/pgstore/pgtest internal/store/storespec"},
}

const (
	domain = "api internal/access internal/aead internal/fault internal/idem internal/kmsapi internal/layout internal/store"
	jsonv2 = "github.com/go-json-experiment/json github.com/go-json-experiment/json/jsontext"
	pebble = "github.com/cockroachdb/pebble/v2 github.com/cockroachdb/pebble/v2/bloom github.com/cockroachdb/pebble/v2/vfs github.com/cockroachdb/pebble/v2/wal"
	pgx    = "github.com/jackc/pgx/v5 github.com/jackc/pgx/v5/pgconn github.com/jackc/pgx/v5/pgxpool"
	uuid   = "github.com/google/uuid"
)

// keyMakers are the packages that may build a cipher. Everybody else seals
// through internal/aead; the generator of test vectors shares no code with it
// on purpose.
var keyMakers = []string{"internal/aead", "cmek/internal/genvectors"}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	pkgs := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(p.ImportPath, module+"/"); ok {
			pkgs[name] = p.Imports
		}
	}
	return pkgs
}

// split sorts imports into ours (short names) and those of other modules.
func split(imports []string) (ours, others []string) {
	for _, imp := range imports {
		name, mine := strings.CutPrefix(imp, module+"/")
		switch first, _, _ := strings.Cut(imp, "/"); {
		case mine:
			ours = append(ours, name)
		case strings.Contains(first, "."):
			others = append(others, imp)
		}
	}
	return ours, others
}

func TestEveryRoomImportsWhatTheDrawingSays(t *testing.T) {
	pkgs := packages(t)
	for name := range rooms {
		if _, ok := pkgs[name]; !ok {
			t.Errorf("%s is in the drawing and not in the module", name)
		}
	}
	for name, imports := range pkgs {
		r, ok := rooms[name]
		if !ok {
			t.Errorf("%s is not in the drawing: add it to rooms and to docs/architecture.md", name)
			continue
		}
		ours, others := split(imports)
		compare(t, name, "of ours", ours, strings.Fields(r.ours))
		compare(t, name, "of others", others, strings.Fields(r.others))
		for _, imp := range ours {
			if rooms[imp].floor >= r.floor {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports point down", name, r.floor, imp, rooms[imp].floor)
			}
		}
	}
}

func compare(t *testing.T, name, which string, got, want []string) {
	t.Helper()
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s imports %s (%s), which the drawing does not allow", name, g, which)
		}
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s no longer imports %s (%s): take it out of the drawing", name, w, which)
		}
	}
}

func TestOnlyAEADBuildsCiphers(t *testing.T) {
	for name, imports := range packages(t) {
		for _, imp := range imports {
			if (imp == "crypto/cipher" || imp == "crypto/aes") && !slices.Contains(keyMakers, name) {
				t.Errorf("%s imports %s: seal through internal/aead", name, imp)
			}
		}
	}
}
