package kmsserver

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// testConn notes that it was closed.
type testConn struct {
	net.Conn
	closed bool
}

func (c *testConn) Close() error { c.closed = true; return nil }

// A model of who must lose a connection: the peer with the most, the oldest.
func TestTheOldestOfWhomeverHasMostEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxima := map[bool]int{false: rapid.IntRange(1, 5).Draw(t, "fresh"), true: rapid.IntRange(1, 5).Draw(t, "known")}
		cs := newConns(maxima[false], maxima[true])
		open := map[bool][]*conn{} // by whether they are known, in the order of entry
		of := map[*conn]string{}
		check := func(known bool) {
			if len(open[known]) > maxima[known] {
				counts := map[string]int{}
				for _, c := range open[known] {
					counts[of[c]]++
				}
				i := slices.IndexFunc(open[known], func(c *conn) bool { return c.Conn.(*testConn).closed })
				if i < 0 {
					t.Fatal("there are too many")
				}
				loser := of[open[known][i]]
				for peer, n := range counts {
					if n > counts[loser] {
						t.Fatalf("%s with %d lost one, not %s with %d", loser, counts[loser], peer, n)
					}
				}
				if first := slices.IndexFunc(open[known], func(c *conn) bool { return of[c] == loser }); first != i {
					t.Fatal("it was not the oldest")
				}
				open[known] = slices.Delete(open[known], i, i+1)
			}
			for _, k := range []bool{false, true} {
				for _, c := range open[k] {
					if c.Conn.(*testConn).closed {
						t.Fatal("one too many was ended")
					}
				}
			}
			if n := cs.counts(); n.fresh != len(open[false]) || n.known != len(open[true]) {
				t.Fatalf("counts %+v; want %d, %d", n, len(open[false]), len(open[true]))
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			known := rapid.Bool().Draw(t, "kind")
			peer := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "peer")
			switch what := rapid.SampledFrom([]string{"add", "add", "add", "promote", "promote", "close"}).Draw(t, "what"); {
			case what == "add":
				c := &conn{Conn: new(testConn)}
				of[c] = peer
				open[false] = append(open[false], c)
				cs.add(c, peer)
				check(false)
			case what == "promote" && len(open[false]) > 0:
				i := rapid.IntRange(0, len(open[false])-1).Draw(t, "which")
				c := open[false][i]
				open[false] = slices.Delete(open[false], i, i+1)
				open[true] = append(open[true], c)
				of[c] = peer
				cs.promote(c, peer)
				check(true)
			case what == "close" && len(open[known]) > 0:
				i := rapid.IntRange(0, len(open[known])-1).Draw(t, "which")
				c := open[known][i]
				open[known] = slices.Delete(open[known], i, i+1)
				c.Close()
				c.Close() // as net/http may
				cs.promote(c, peer)
				check(known)
			}
		}
	})
}

func TestConnectionsAreCountedByWhatTheyShowed(t *testing.T) {
	r := newRig(t)
	want := func(fresh, known int) {
		t.Helper()
		if n := r.conns.counts(); n.fresh != fresh || n.known != known {
			t.Errorf("%+v, want %d and %d", n, fresh, known)
		}
	}
	idle := r.conn(cryptoUID)
	fmt.Fprint(idle, "GET /hea") // half a head; the server reads it, so it is in
	want(1, 0)
	client := r.client(cryptoUID)
	for range 3 {
		r.do(client, "GET /healthz", "", "")
		want(1, 1)
	}
	stranger := r.conn(strangerUID)
	fmt.Fprint(stranger, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadAll(stranger) // to its end: the server closed it
	want(1, 1)
}
