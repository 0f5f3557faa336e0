package keyfoldtest

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/fault"
)

// Behind the switch is no KMS: a call that it passes on panics.
func TestEveryCallFailsWhileTheKMSIsDown(t *testing.T) {
	f := &faults{KMS: struct{ allinone.KMS }{}}
	f.down.Store(true)
	v := reflect.ValueOf(f)
	for m := range reflect.TypeFor[allinone.KMS]().Methods() {
		call := v.MethodByName(m.Name)
		args := []reflect.Value{reflect.ValueOf(context.Background())}
		for i := 1; i < call.Type().NumIn(); i++ {
			args = append(args, reflect.Zero(call.Type().In(i)))
		}
		func() {
			defer func() {
				if recover() != nil {
					t.Errorf("%s reaches the KMS", m.Name)
				}
			}()
			out := call.Call(args)
			if err, _ := out[len(out)-1].Interface().(error); !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", m.Name, err)
			}
		}()
	}
}
