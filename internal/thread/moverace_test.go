package thread

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
)

// TestReadersAndWritersGoOnWhileAThreadIsMoved lets posts, of times before and after
// all others too, edits, deletions, reactions and all reads race with six
// rotations and a rewrap. Each writer has messages of his own and knows what they
// have to be.
func TestReadersAndWritersGoOnWhileAThreadIsMoved(t *testing.T) {
	x := newShift(t, 150)
	old := x.meta().KMS.KeyID
	before := x.everything(x.Service)
	first := x.ids
	ahead := x.now().Add(time.Hour).UnixNano()
	var done atomic.Bool
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[string]string{} // body by message; "": deleted
	for n := range 4 {
		s := x.another()
		wg.Go(func() {
			ctx := context.Background()
			r := rand.New(rand.NewPCG(uint64(n), 1))
			var mine []string
			bodies := map[string]string{}
			for i := 0; !done.Load() || i < 30; i++ {
				text := fmt.Sprintf(`"writer %d, %d"`, n, i)
				switch k := r.IntN(10); {
				case k < 4 || len(mine) == 0:
					ts := []int64{0, 0, int64(1 + r.IntN(1000)), ahead + int64(r.IntN(1000))}[r.IntN(4)]
					raw, err := s.Post(ctx, owner, x.thread, api.PostMessage{Body: []byte(text), TS: ts})
					if err != nil {
						t.Errorf("post: %v", err)
						return
					}
					id := decodeAs[api.Message](t, raw).ID
					mine = append(mine, id)
					bodies[id] = text
				case k < 7:
					id := mine[r.IntN(len(mine))]
					_, err := s.EditMessage(ctx, owner, x.thread, id, api.EditMessage{Body: []byte(text)})
					if bodies[id] == "" && errors.Is(err, fault.NotFound) {
						continue
					}
					if err != nil {
						t.Errorf("edit: %v", err)
						return
					}
					bodies[id] = text
				case k < 8:
					id := mine[r.IntN(len(mine))]
					if err := s.DeleteMessage(ctx, owner, x.thread, id); err != nil && bodies[id] != "" {
						t.Errorf("delete: %v", err)
						return
					}
					bodies[id] = ""
				default:
					id := first[r.IntN(len(first))]
					if _, err := s.React(ctx, owner, x.thread, id, api.Reaction{Reaction: "x"}); err != nil && !errors.Is(err, fault.NotFound) {
						t.Errorf("react: %v", err)
						return
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for id, body := range bodies {
				want[id] = body
			}
		})
	}
	for n := range 2 {
		s := x.another()
		wg.Go(func() {
			ctx := context.Background()
			r := rand.New(rand.NewPCG(uint64(n), 2))
			for !done.Load() {
				id := first[r.IntN(len(first))]
				_, err1 := s.ListMessages(ctx, owner, x.thread, MessageQuery{Limit: 50, IncludeDeleted: true, After: id})
				raw, err2 := s.ListVersions(ctx, owner, x.thread, id, 0, "")
				_, err3 := s.ListReactions(ctx, owner, x.thread, id)
				if errors.Is(err3, fault.NotFound) {
					err3 = nil
				}
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Errorf("a read: %v", err)
					return
				}
				if got := string(raw) + " <nil>"; got != before["versions "+id] {
					t.Errorf("versions of %s: %s", id, got)
				}
			}
		})
	}
	for i := range 6 {
		if j := x.rotate(); j.Status != job.Completed {
			t.Errorf("rotation %d ended as %+v", i, j)
		}
		if i == 1 {
			if j := x.rewrap(t, true); j.Status != job.Completed {
				t.Errorf("the rewrap ended as %+v", j)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	x.completed(x.rotate())
	x.arrived(old)
	for id, body := range want {
		raw, err := x.GetMessage(t.Context(), owner, x.thread, id)
		switch {
		case body == "":
			wantCode(t, err, fault.NotFound)
		case err != nil || string(decodeAs[api.Message](t, raw).Body) != body:
			t.Errorf("%s is %s, %v; want %s", id, raw, err, body)
		}
	}
}

// A reader guesses the old DEK of a row that was edited since, and asks for both then.
// Before each of his questions the thread may come to its end, and move once more: so
// neither of the DEKs that he knew is there any more, and nothing is damaged.
func TestAReaderIsNotToldOfDamageWhereTheThreadMovedOn(t *testing.T) {
	for at := range 3 {
		x := newShift(t, 3)
		m, err := x.load(t.Context(), x.thread)
		x.must(err)
		x.must(second(x.beginMoving(t.Context(), m)))
		x.edit(x.Service, 0, "edited meanwhile")
		asked := 0
		x.kms.before = func() {
			if asked++; asked == at+1 {
				x.kms.before = nil
				x.completed(x.rotate()) // which takes over what was begun
				x.completed(x.rotate())
			}
		}
		raw, err := x.GetMessage(t.Context(), owner, x.thread, x.ids[0])
		if err != nil || string(decodeAs[api.Message](t, raw).Body) != `"edited meanwhile"` {
			t.Errorf("before question %d: %s, %v", at+1, raw, err)
		}
		if x.kms.before != nil {
			t.Errorf("there were %d questions", asked)
		}
	}
}

// A message is deleted, and the thread moved, while a page is read that holds it.
func TestAPageHasWhatIsThereWhereAMessageOfItWentWhileTheThreadMoved(t *testing.T) {
	x := newShift(t, 3)
	x.kms.before = func() {
		x.kms.before = nil
		x.must(x.DeleteMessage(t.Context(), owner, x.thread, x.ids[1]))
		x.completed(x.rotate())
	}
	if got := ids(x.list(t, owner, x.thread, MessageQuery{}).Messages); !slices.Equal(got, []string{x.ids[0], x.ids[2]}) {
		t.Errorf("the page has %v of %v", got, x.ids)
	}
}
