package kmsapi

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keyfold/keyfold/internal/fault"
)

// The protobuf form. Both directions are a list of messages in field 1. Fields
// of a message come once each; zero values are left out. It is written by hand
// because decoded bytes must alias the body, which its owner wipes: a second
// copy of a plaintext is one that nobody wipes.

// message describes a protobuf message by its fields, in the order in which they
// are written; a failure is the last one.
type message[T any] []field[T]

type field[T any] struct {
	num  protowire.Number // 1 to 15: its tag is one byte
	name string           // in JSON, and in what we say about it
	must bool             // a request in JSON, or a result that is no failure, must have it
	at   func(*T) any     // a *string, *[]byte, *uint32, or *error for a failure
}

// listField is the number of the items or results in a body.
const listField = 1

// failure describes the message Error.
var failure = message[fault.Error]{
	{1, "code", true, func(e *fault.Error) any { return (*string)(&e.Code) }},
	{2, "message", false, func(e *fault.Error) any { return &e.Message }},
	{3, "type", false, func(e *fault.Error) any { return &e.Type }},
}

func (m message[T]) listSize(xs []T) int {
	n := 0
	for i := range xs {
		n += 1 + protowire.SizeBytes(m.size(&xs[i]))
	}
	return n
}

func (m message[T]) appendList(dst []byte, xs []T) []byte {
	dst = slices.Grow(dst, m.listSize(xs))
	for i := range xs {
		dst = protowire.AppendTag(dst, listField, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(m.size(&xs[i])))
		dst = m.append(dst, &xs[i])
	}
	return dst
}

func (m message[T]) size(x *T) int {
	n := 0
	for i := range m {
		switch p := m[i].at(x).(type) {
		case *string:
			n += sizeBytes(len(text(*p)))
		case *[]byte:
			n += sizeBytes(len(*p))
		case *uint32:
			if *p != 0 {
				n += 1 + protowire.SizeVarint(uint64(*p))
			}
		case *error:
			if *p != nil {
				n += 1 + protowire.SizeBytes(failure.size(fault.Of(*p)))
			}
		}
	}
	return n
}

// text returns s as protobuf has it, in UTF-8. What is not becomes U+FFFD, which
// no ID has: such an item fails, and does not make its neighbours unreadable.
func text(s string) string {
	if utf8.ValidString(s) { // much the faster
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func (m message[T]) append(dst []byte, x *T) []byte {
	for i := range m {
		num := m[i].num
		switch p := m[i].at(x).(type) {
		case *string:
			if *p != "" {
				dst = protowire.AppendTag(dst, num, protowire.BytesType)
				dst = protowire.AppendString(dst, text(*p))
			}
		case *[]byte:
			if len(*p) > 0 {
				dst = protowire.AppendTag(dst, num, protowire.BytesType)
				dst = protowire.AppendBytes(dst, *p)
			}
		case *uint32:
			if *p != 0 {
				dst = protowire.AppendTag(dst, num, protowire.VarintType)
				dst = protowire.AppendVarint(dst, uint64(*p))
			}
		case *error:
			if *p != nil {
				f := fault.Of(*p)
				dst = protowire.AppendTag(dst, num, protowire.BytesType)
				dst = protowire.AppendVarint(dst, uint64(failure.size(f)))
				dst = failure.append(dst, f)
			}
		}
	}
	return dst
}

// ParseRequest reads a protobuf request. Byte fields of the items alias body,
// strings do not. It fails with fault.Invalid, or with fault.TooLarge for more
// than MaxBatch items.
//
// A field that it does not know fails the request: it may say what to bind,
// and to seal without it would be worse than not to seal.
func (c Call[In, Out]) ParseRequest(body []byte) ([]In, error) {
	n, err := countList(body, true)
	if err == nil && n > MaxBatch {
		return nil, tooMany()
	}
	var items []In
	if err == nil {
		items, err = c.in.parseList(body, n, true)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the body is not a protobuf request of %s: %v; encode it as kms.proto says", c.Path, err)
	}
	return items, nil
}

func tooMany() error {
	return fault.New(fault.TooLarge, "send at most %d items in one call", MaxBatch)
}

// ParseAnswer reads a protobuf answer of n results. Byte fields alias body,
// strings do not; each Err is a *fault.Error. What has not the shape of an
// answer (another number of results, a result that is neither whole nor only a
// failure) is fault.Internal. Fields that it does not know are passed over.
func (c Call[In, Out]) ParseAnswer(body []byte, n int) ([]Out, error) {
	got, err := countList(body, false)
	if err == nil && got != n {
		err = fmt.Errorf("it has %d results, not %d", got, n)
	}
	var results []Out
	if err == nil {
		results, err = c.out.parseList(body, n, false)
	}
	for i := range results {
		if err == nil {
			err = c.out.whole(&results[i])
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "what the KMS answered to %s is no answer to it; check that both are of the same version", c.Path)
	}
	return results, nil
}

// whole reports what is wrong with a result: it is a failure and nothing else,
// or has all that it must.
func (m message[T]) whole(x *T) error {
	failed := m.err(x) != nil
	for i := range m {
		p := m[i].at(x)
		switch _, isErr := p.(*error); {
		case isErr:
		case failed && !isZero(p):
			return fmt.Errorf("a failed result has %s", m[i].name)
		case !failed && m[i].must && isZero(p):
			return fmt.Errorf("a result has no %s", m[i].name)
		}
	}
	return nil
}

// err returns the failure that x holds, or nil.
func (m message[T]) err(x *T) error {
	if p, ok := m[len(m)-1].at(x).(*error); ok {
		return *p
	}
	return nil
}

// isZero reports whether p is of what protobuf leaves out.
func isZero(p any) bool {
	switch p := p.(type) {
	case *string:
		return *p == ""
	case *[]byte:
		return len(*p) == 0
	case *uint32:
		return *p == 0
	}
	return true
}

var (
	errCut   = errors.New("it is cut off or damaged")
	errTwice = errors.New("a field comes twice")
	errUTF8  = errors.New("a string is not UTF-8")
	errKind  = errors.New("a field is of the wrong kind")
	errRange = errors.New("a number is over 2^32-1")
)

// countList returns how many messages body lists, at most MaxBatch+1.
func countList(body []byte, strict bool) (int, error) {
	n := 0
	for len(body) > 0 && n <= MaxBatch {
		num, typ, k := protowire.ConsumeField(body)
		switch {
		case k < 0:
			return 0, errCut
		case num == listField && typ != protowire.BytesType:
			return 0, errKind
		case num == listField:
			n++
		case strict:
			return 0, errUnknown(num)
		}
		body = body[k:]
	}
	return n, nil
}

func errUnknown(num protowire.Number) error {
	return fmt.Errorf("this version does not know field %d", num)
}

// parseList reads the n messages of a body that countList has passed.
func (m message[T]) parseList(body []byte, n int, strict bool) ([]T, error) {
	xs := make([]T, n)
	for i := 0; i < n; {
		num, typ, k := protowire.ConsumeTag(body)
		body = body[k:]
		if num != listField {
			body = body[protowire.ConsumeFieldValue(num, typ, body):]
			continue
		}
		b, k := protowire.ConsumeBytes(body)
		body = body[k:]
		if err := m.parse(b, &xs[i], &xs[max(i-1, 0)], strict); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		i++
	}
	return xs, nil
}

// parse reads b into x. A string that prev has too is shared with it: most
// batches name few keys.
func (m message[T]) parse(b []byte, x, prev *T, strict bool) error {
	seen := 0
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errCut
		}
		b = b[n:]
		i := slices.IndexFunc(m, func(f field[T]) bool { return f.num == num })
		switch {
		case i >= 0 && seen&(1<<i) != 0:
			return errTwice
		case i >= 0:
			seen |= 1 << i
			var err error
			if n, err = m[i].parse(b, typ, x, prev, strict); err != nil {
				return err
			}
		case strict:
			return errUnknown(num)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errCut
		}
		b = b[n:]
	}
	return nil
}

// parse reads the value at the beginning of b. It returns its length, which is
// negative when b is cut off.
func (f *field[T]) parse(b []byte, typ protowire.Type, x, prev *T, strict bool) (int, error) {
	p := f.at(x)
	if number, ok := p.(*uint32); ok {
		return parseNumber(b, typ, number)
	}
	if typ != protowire.BytesType {
		return 0, errKind
	}
	v, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return n, nil
	}
	switch p := p.(type) {
	case *[]byte:
		*p = v[:len(v):len(v)]
	case *string:
		if s := *f.at(prev).(*string); s == string(v) {
			*p = s
		} else if *p = string(v); !utf8.Valid(v) {
			return 0, errUTF8
		}
	case *error:
		e := new(fault.Error)
		if err := failure.parse(v, e, e, strict); err != nil {
			return 0, err
		}
		*p = known(e)
	}
	return n, nil
}

func parseNumber(b []byte, typ protowire.Type, to *uint32) (int, error) {
	if typ != protowire.VarintType {
		return 0, errKind
	}
	v, n := protowire.ConsumeVarint(b)
	if v > math.MaxUint32 {
		return 0, errRange
	}
	*to = uint32(v)
	return n, nil
}

func (m message[T]) wipe(xs []T) {
	for p := range m.bytes(xs) {
		clear(*p)
	}
}

func (m message[T]) detach(xs []T) {
	size := 0
	for p := range m.bytes(xs) {
		size += len(*p)
	}
	room := make([]byte, 0, size)
	for p := range m.bytes(xs) {
		from := len(room)
		room = append(room, *p...)
		*p = room[from:len(room):len(room)]
	}
}

// bytes runs through the byte fields of xs.
func (m message[T]) bytes(xs []T) iter.Seq[*[]byte] {
	return func(yield func(*[]byte) bool) {
		for i := range m {
			for j := range xs {
				if p, ok := m[i].at(&xs[j]).(*[]byte); ok && !yield(p) {
					return
				}
			}
		}
	}
}
