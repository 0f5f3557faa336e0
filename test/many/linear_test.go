package many

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// A history of calls is linearizable when each of them can be thought to have
// happened at one moment between its beginning and its end, one after the other, as a
// single server with no faults would have answered them. porcupine looks for such an
// order. A call that nobody answered may have happened at any time after it began, or
// not at all.

// act is a call on one object: a secret, or a vault's key.
type act struct {
	object string
	kind   string // put, swap, get; or of a vault: reseal, write, ask
	value  string // that is written; of a vault: the fingerprint
	match  string // a swap's: the version, or the fingerprint, that it must find
}

// seen is what a call said.
type seen struct {
	lost    bool // nobody answered
	done    bool // it took effect; of a get: there is a value
	version int
	value   string
}

// recorder keeps a history.
type recorder struct {
	mu    sync.Mutex
	epoch time.Time
	all   []porcupine.Operation
}

func (r *recorder) add(client int, in act, a answer, out seen) {
	end := a.ended.Sub(r.epoch).Nanoseconds()
	if out.lost {
		end = math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, porcupine.Operation{ClientId: client, Input: in, Call: a.began.Sub(r.epoch).Nanoseconds(), Output: out, Return: end})
}

// held is what an object holds: a secret its newest version, a vault its fingerprint.
type held struct {
	version int
	value   string
}

// byObject splits a history; objects do not know of each other.
func byObject(all []porcupine.Operation) (parts [][]porcupine.Operation) {
	at := map[string]int{}
	for _, op := range all {
		i, there := at[op.Input.(act).object]
		if !there {
			i = len(parts)
			at[op.Input.(act).object] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

// secretModel is a secret: a put makes the next version, a swap does if it finds the
// version that it names, a get tells the newest.
var secretModel = porcupine.Model{
	Partition: byObject,
	Init:      func() any { return held{} },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(held), input.(act), output.(seen)
		next := held{now.version + 1, in.value}
		switch {
		case in.kind == "get":
			return out.lost || out.done == (now.version > 0) && out.version == now.version && out.value == now.value, now
		case in.kind == "swap" && in.match != fmt.Sprint(now.version):
			return out.lost || !out.done, now
		case out.lost:
			return true, next
		}
		return out.done && out.version == next.version, next
	},
}

// sealModel is the key of a vault: a reseal puts another in its place if it finds the
// one that it names, a write is taken if it was sealed with the vault's, ask tells it.
var sealModel = porcupine.Model{
	Partition: byObject,
	Init:      func() any { return held{} },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(held), input.(act), output.(seen)
		switch in.kind {
		case "ask":
			return out.lost || out.value == now.value, now
		case "write":
			return out.lost || out.done == (in.value == now.value), now
		}
		if in.match != now.value {
			return out.lost || !out.done, now
		}
		return out.lost || out.done, held{value: in.value}
	},
}

// linear is callers whose every call is written down.
type linear struct {
	*caller
	vault   string // path of a vault in clear
	sealed  []string
	keys    []*cmek.Key
	secrets recorder
	seals   recorder
	ledger  *ledger

	mu      sync.Mutex
	written map[string]sealedWrite // by value
}

// sealedWrite is a version that was declared to be sealed with a key.
type sealedWrite struct {
	vault, fingerprint string
	version            int // 0: the call was not answered
}

// run works until ctx ends, with a rest between two calls: the search for an order
// takes longer the more calls of one object are under way at once.
func (l *linear) run(ctx context.Context, clients int, rest time.Duration) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.secret(i, n)
				time.Sleep(rand.N(2 * rest))
			}
		})
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.seal(i, n)
				time.Sleep(rand.N(2 * rest))
			}
		})
	}
	wg.Wait()
}

// linearSecrets is over how many secrets the calls are spread.
const linearSecrets = 8

func (l *linear) secret(client, n int) {
	in := act{object: fmt.Sprint("l", rand.IntN(linearSecrets)), value: fmt.Sprintf("%d.%d", client, n)}
	path := l.vault + "/secrets/" + in.object
	var got version
	look := func() answer {
		got = version{}
		a := l.call(context.Background(), "GET", path, "")
		switch {
		case a.status == http.StatusNotFound:
		case a.ok() && json.Unmarshal([]byte(a.text), &got) == nil:
		case !a.lost():
			l.ledger.refuse("a get was answered with %d %s", a.status, a.text)
		}
		l.secrets.add(client, act{object: in.object, kind: "get"}, a, seen{lost: a.lost(), done: a.ok(), version: got.Version, value: got.Value})
		return a
	}
	var header []string
	switch n % 3 {
	case 0:
		look()
		return
	case 1:
		in.kind = "put"
	case 2:
		if a := look(); a.lost() || got.Version == 0 {
			return
		}
		in.kind, in.match = "swap", fmt.Sprint(got.Version)
		header = []string{"If-Match", `"` + in.match + `"`}
	}
	a := l.call(context.Background(), "PUT", path, `{"value":"`+in.value+`"}`, header...)
	var made version
	switch {
	case a.ok():
		if err := json.Unmarshal([]byte(a.text), &made); err != nil {
			l.ledger.refuse("a put was answered with %d %s", a.status, a.text)
		}
	case a.lost(), a.status == http.StatusPreconditionFailed && in.kind == "swap":
	default:
		l.ledger.refuse("a %s was answered with %d %s", in.kind, a.status, a.text)
	}
	l.secrets.add(client, in, a, seen{lost: a.lost(), done: a.ok(), version: made.Version})
}

func (l *linear) seal(client, n int) {
	in := act{object: l.sealed[rand.IntN(len(l.sealed))]}
	ask := func() (fingerprint string, a answer) {
		a = l.call(context.Background(), "GET", in.object+"/cmek?keys=false", "")
		var is api.CMEKStatus
		if !a.lost() && (!a.ok() || json.Unmarshal([]byte(a.text), &is) != nil) {
			l.ledger.refuse("a vault's key was asked for: %d %s", a.status, a.text)
		}
		l.seals.add(client, act{object: in.object, kind: "ask"}, a, seen{lost: a.lost(), value: is.Fingerprint})
		return is.Fingerprint, a
	}
	now, a := ask()
	if a.lost() {
		return
	}
	if n%3 == 0 {
		key := l.keys[rand.IntN(len(l.keys))]
		if n%2 == 0 { // as a rule the right one
			for _, k := range l.keys {
				if k.Fingerprint() == now {
					key = k
				}
			}
		}
		value := fmt.Sprintf("%d.%d", client, n)
		blob, err := cmek.EncryptValue(key, []byte(value))
		if err != nil {
			panic(err)
		}
		in.kind, in.value = "write", key.Fingerprint()
		a = l.call(context.Background(), "PUT", in.object+"/secrets/s", `{"value":"`+blob+`"}`, api.HeaderCMEKFingerprint, in.value)
		var made version
		if a.ok() && (json.Unmarshal([]byte(a.text), &made) != nil || made.Version == 0) {
			l.ledger.refuse("a sealed put was answered with %d %s", a.status, a.text)
		}
		if a.ok() || a.lost() {
			l.mu.Lock()
			l.written[value] = sealedWrite{in.object, in.value, made.Version}
			l.mu.Unlock()
		}
	} else {
		in.kind, in.match, in.value = "reseal", now, l.keys[rand.IntN(len(l.keys))].Fingerprint()
		if in.value == now {
			return
		}
		a = l.call(context.Background(), "POST", in.object+"/cmek", fmt.Sprintf(`{"fingerprint":%q,"replaces":%q}`, in.value, in.match))
	}
	if !a.ok() && !a.lost() && a.status != http.StatusConflict {
		l.ledger.refuse("a %s was answered with %d %s", in.kind, a.status, a.text)
	}
	l.seals.add(client, in, a, seen{lost: a.lost(), done: a.ok()})
}

// settle counts the sealed versions: each opens with the key that its own fingerprint
// names, which is the one that it was declared with, and is where it was acknowledged.
func (l *linear) settle(t *testing.T, c *count) {
	t.Helper()
	keys := map[string]*cmek.Key{}
	for _, k := range l.keys {
		keys[k.Fingerprint()] = k
	}
	seen := map[string]bool{}
	for _, vault := range l.sealed {
		newest := l.call(t.Context(), "GET", vault+"/secrets/s", "")
		var got version
		if err := json.Unmarshal([]byte(newest.text), &got); newest.status != http.StatusNotFound && (!newest.ok() || err != nil) {
			t.Fatalf("GET %s/secrets/s = %d %.300s", vault, newest.status, newest.text)
		}
		for n := range got.Version {
			n++
			a := l.call(t.Context(), "GET", fmt.Sprintf("%s/secret-version/s/%d", vault, n), "")
			var one version
			if err := json.Unmarshal([]byte(a.text), &one); !a.ok() || err != nil {
				t.Errorf("version %d of %s = %d %.300s", n, vault, a.status, a.text)
				c.lost++
				continue
			}
			key := keys[a.fingerprint]
			if key == nil {
				t.Errorf("version %d of %s has the fingerprint %q", n, vault, a.fingerprint)
				c.mislabelled++
				continue
			}
			value, err := cmek.DecryptValue(key, one.Value)
			w, known := l.written[string(value)]
			switch {
			case err != nil:
				t.Errorf("version %d of %s does not open with the key that its fingerprint names: %v", n, vault, err)
				c.mislabelled++
			case seen[string(value)]:
				t.Errorf("%q is in two versions, %d of %s one of them", value, n, vault)
				c.doubled++
			case !known || w.vault != vault || w.fingerprint != a.fingerprint || w.version > 0 && w.version != n:
				t.Errorf("version %d of %s, of %s, holds %q, of which is known %+v", n, vault, a.fingerprint, value, w)
				c.mislabelled++
			}
			seen[string(value)] = true
		}
	}
	for value, w := range l.written {
		if w.version == 0 {
			continue
		}
		if c.sealed++; !seen[value] {
			t.Errorf("%q, acknowledged as version %d of %s, is lost", value, w.version, w.vault)
			c.lost++
		}
	}
}

// check looks for an order of what was done, and fails the test when there is none.
func (l *linear) check(t *testing.T) {
	t.Helper()
	for name, of := range map[string]struct {
		model porcupine.Model
		all   []porcupine.Operation
	}{"secrets": {secretModel, l.secrets.all}, "seals of vaults": {sealModel, l.seals.all}} {
		lost := 0
		for _, op := range of.all {
			if op.Output.(seen).lost {
				lost++
			}
		}
		result := porcupine.CheckOperationsTimeout(of.model, of.all, patience)
		t.Logf("%s: %d calls, %d of them not answered: %s", name, len(of.all), lost, result)
		if result != porcupine.Ok {
			t.Errorf("the history of %s is not linearizable: %s", name, result)
		}
	}
}

func TestTheModelsRefuseWhatNoSingleServerSays(t *testing.T) {
	at := func(begin, end int64, in act, out seen) porcupine.Operation {
		in.object = "o"
		return porcupine.Operation{Input: in, Output: out, Call: begin, Return: end}
	}
	put := func(v string) act { return act{kind: "put", value: v} }
	got := func(n int, v string) seen { return seen{done: n > 0, version: n, value: v} }
	made := func(n int) seen { return seen{done: true, version: n} }
	for name, of := range map[string]struct {
		model porcupine.Model
		all   []porcupine.Operation
		ok    bool
	}{
		"one after the other":         {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 3, act{kind: "get"}, got(1, "a"))}, true},
		"a lost write":                {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 3, act{kind: "get"}, got(0, ""))}, false},
		"a number given twice":        {secretModel, []porcupine.Operation{at(0, 2, put("a"), made(1)), at(1, 3, put("b"), made(1))}, false},
		"an old value":                {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 3, put("b"), made(2)), at(4, 5, act{kind: "get"}, got(1, "a"))}, false},
		"a doubled write":             {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 3, act{kind: "get"}, got(2, "a"))}, false},
		"a write that was not heard":  {secretModel, []porcupine.Operation{at(0, math.MaxInt64, put("a"), seen{lost: true}), at(2, 3, act{kind: "get"}, got(0, "")), at(4, 5, act{kind: "get"}, got(1, "a"))}, true},
		"it comes and goes":           {secretModel, []porcupine.Operation{at(0, math.MaxInt64, put("a"), seen{lost: true}), at(2, 3, act{kind: "get"}, got(1, "a")), at(4, 5, act{kind: "get"}, got(0, ""))}, false},
		"two swaps of one version":    {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 4, act{kind: "swap", match: "1", value: "b"}, made(2)), at(3, 5, act{kind: "swap", match: "1", value: "c"}, made(3))}, false},
		"a swap refused for nothing":  {secretModel, []porcupine.Operation{at(0, 1, put("a"), made(1)), at(2, 4, act{kind: "swap", match: "1", value: "b"}, seen{})}, false},
		"a write under the old key":   {sealModel, []porcupine.Operation{at(0, 1, act{kind: "reseal", value: "f"}, made(0)), at(2, 3, act{kind: "reseal", match: "f", value: "g"}, made(0)), at(4, 5, act{kind: "write", value: "f"}, made(0))}, false},
		"a write under the new key":   {sealModel, []porcupine.Operation{at(0, 1, act{kind: "reseal", value: "f"}, made(0)), at(2, 5, act{kind: "reseal", match: "f", value: "g"}, made(0)), at(3, 4, act{kind: "write", value: "g"}, made(0))}, true},
		"two who replace one key":     {sealModel, []porcupine.Operation{at(0, 1, act{kind: "reseal", value: "f"}, made(0)), at(2, 4, act{kind: "reseal", match: "f", value: "g"}, made(0)), at(2, 4, act{kind: "reseal", match: "f", value: "h"}, made(0))}, false},
		"the old key after the other": {sealModel, []porcupine.Operation{at(0, 1, act{kind: "reseal", value: "f"}, made(0)), at(2, 3, act{kind: "reseal", match: "f", value: "g"}, made(0)), at(4, 5, act{kind: "ask"}, seen{value: "f"})}, false},
	} {
		if ok := porcupine.CheckOperations(of.model, of.all); ok != of.ok {
			t.Errorf("%s: linearizable = %v", name, ok)
		}
	}
}
