package kmsapi

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/fault"
)

// schema compiles kms.proto.
func schema(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := c.Compile(context.Background(), "kms.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

// TestAStandardProtobufReadsAndWritesOurBytes holds the codec to kms.proto: what
// we write, a standard implementation reads as the same values, and what it
// writes, we read.
func TestAStandardProtobufReadsAndWritesOurBytes(t *testing.T) {
	file := schema(t)
	against(t, file, CreateKEK, "CreateKEK")
	against(t, file, CreateDEK, "CreateDEK")
	against(t, file, Encrypt, "Encrypt")
	against(t, file, Decrypt, "Decrypt")
	against(t, file, Seal, "Seal")
	against(t, file, Open, "Open")
	against(t, file, Rewrap, "Rewrap")
	against(t, file, CMEKRotation, "OpenCMEKRotation")
	against(t, file, Reencrypt, "Reencrypt")
	against(t, file, CMEKSeal, "CMEKSeal")
	against(t, file, CMEKOpen, "CMEKOpen")
}

func against[In, Out any](t *testing.T, file protoreflect.FileDescriptor, c Call[In, Out], name string) {
	lists := map[string]func(*testing.T){
		name + "Request": func(t *testing.T) { list(t, file, c.in, name+"Item", name+"Request", c.ParseRequest) },
		name + "Answer": func(t *testing.T) {
			n := 0
			list(t, file, c.out, name+"Result", name+"Answer", func(body []byte) ([]Out, error) {
				n, _ = countList(body, false)
				return c.out.parseList(body, n, false)
			})
		},
	}
	for name, run := range lists {
		t.Run(name, run)
	}
}

func list[T any](t *testing.T, file protoreflect.FileDescriptor, m message[T], element, list string, parse func([]byte) ([]T, error)) {
	listType := file.Messages().ByName(protoreflect.Name(list))
	elementType := file.Messages().ByName(protoreflect.Name(element))
	if listType == nil || elementType == nil {
		t.Fatalf("kms.proto lacks %s or %s", list, element)
	}
	if n := elementType.Fields().Len(); n != len(m) {
		t.Fatalf("kms.proto gives %s %d fields, the codec %d", element, n, len(m))
	}
	rapid.Check(t, func(t *rapid.T) {
		xs := make([]T, rapid.IntRange(0, 4).Draw(t, "items"))
		want := dynamicpb.NewMessage(listType)
		elements := want.Mutable(listType.Fields().ByNumber(listField)).List()
		for i := range xs {
			e := dynamicpb.NewMessage(elementType)
			for j := range m {
				fill(t, e, elementType, m[j].num, m[j].name, m[j].at(&xs[i]))
			}
			elements.Append(protoreflect.ValueOfMessage(e))
		}
		ours := m.appendList(nil, xs)
		read := dynamicpb.NewMessage(listType)
		if err := proto.Unmarshal(ours, read); err != nil || !proto.Equal(read, want) || len(read.GetUnknown()) != 0 {
			t.Fatalf("a standard reader has %v (%v) where we wrote %v", read, err, want)
		}
		theirs, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(theirs)
		if err != nil || diff(xs, got) != "" {
			t.Fatalf("we read %v\n%s", err, diff(xs, got))
		}
	})
}

// fill draws a value into our field and into the standard one of that number and name.
func fill(t *rapid.T, e *dynamicpb.Message, typ protoreflect.MessageDescriptor, num protoreflect.FieldNumber, name string, at any) {
	f := typ.Fields().ByNumber(num)
	if f == nil || string(f.Name()) != name {
		t.Fatalf("kms.proto names field %d of %s %v, the codec %s", num, typ.Name(), f, name)
	}
	switch p := at.(type) {
	case *string:
		*p = rapid.String().Draw(t, name)
		e.Set(f, protoreflect.ValueOfString(*p))
	case *[]byte:
		*p = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, name)
		e.Set(f, protoreflect.ValueOfBytes(*p))
	case *uint32:
		*p = rapid.Uint32Range(0, math.MaxUint32).Draw(t, name)
		e.Set(f, protoreflect.ValueOfUint32(*p))
	case *error:
		if !rapid.Bool().Draw(t, "failed") {
			return
		}
		fe := &fault.Error{Code: rapid.SampledFrom(codes).Draw(t, "code")}
		*p = fe
		sub := dynamicpb.NewMessage(f.Message())
		subs := f.Message().Fields()
		sub.Set(subs.ByName("code"), protoreflect.ValueOfString(string(fe.Code)))
		for name, to := range map[protoreflect.Name]*string{"message": &fe.Message, "type": &fe.Type} {
			*to = rapid.String().Draw(t, string(name))
			sub.Set(subs.ByName(name), protoreflect.ValueOfString(*to))
		}
		e.Set(f, protoreflect.ValueOfMessage(sub))
	default:
		t.Fatal(fmt.Sprintf("a field of type %T", at))
	}
}
