package access

import (
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/internal/fault"
)

// MaxConditions is the most bytes that a rule's conditions may have.
const MaxConditions = 4 << 10

// conditions are a rule's, parsed. All that are there must hold. The format is
// api.PolicyConditions; a member that it does not know, or a value that is not
// of its form, makes the whole malformed: nobody could say whether it holds.
type conditions struct {
	limitAddr   bool
	addrs       []netip.Prefix
	window      *window
	environment bool
}

// CheckConditions returns nil when raw can be the conditions of a policy, and
// otherwise a fault.Invalid that says what is wrong.
func CheckConditions(raw []byte) error {
	if len(raw) > MaxConditions {
		return fault.New(fault.Invalid, "conditions have %d bytes; the limit is %d", len(raw), MaxConditions)
	}
	_, err := parseConditions(raw)
	return err
}

func parseConditions(raw []byte) (c conditions, err error) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return c, fault.New(fault.Invalid, `conditions must be a JSON object without repeated names, like {"ip_allowlist": ["10.0.0.0/8"]}`)
	}
	for name, value := range members {
		switch name {
		case "ip_allowlist":
			c.limitAddr = true
			c.addrs, err = parseAddrs(value)
		case "time_window":
			c.window, err = parseWindow(value)
		case "environment_in":
			c.environment = true
			_, err = parseTexts(name, value)
		default:
			err = fault.New(fault.Invalid, "conditions have the unknown member %q, under which the policy would never grant; use ip_allowlist, time_window and environment_in", name)
		}
		if err != nil {
			return conditions{}, err
		}
	}
	return c, nil
}

// hold reports whether the conditions hold for p at this moment. known is
// false when that cannot be said: the address is not known, or they ask for an
// environment, which no principal has yet.
func (c conditions) hold(p Principal, now time.Time) (met, known bool) {
	if c.environment || c.limitAddr && !p.Addr.IsValid() {
		return false, false
	}
	return (!c.limitAddr || contain(c.addrs, p.Addr)) && (c.window == nil || c.window.contains(now)), true
}

func parseTexts(name string, value jsontext.Value) (texts []string, err error) {
	if err := json.Unmarshal(value, &texts); err != nil || len(texts) == 0 {
		return nil, fault.New(fault.Invalid, "%s must be a list of one text or more", name)
	}
	return texts, nil
}

func parseAddrs(value jsontext.Value) ([]netip.Prefix, error) {
	texts, err := parseTexts("ip_allowlist", value)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		var ok bool
		if out[i], ok = parsePrefix(text); !ok {
			return nil, fault.New(fault.Invalid, "%.64q in ip_allowlist is no address and no network; write 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32", text)
		}
	}
	return out, nil
}

// parsePrefix reads an address or a network. What is IPv4 in the clothes of
// IPv6 is IPv4.
func parsePrefix(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), err == nil && a.Zone() == ""
	}
	if !p.Addr().Is4In6() {
		return p, true
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96), p.Bits() >= 96
}

func contain(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// window is a time of day, in minutes since midnight, on some days of the week.
// It is judged by the wall clock: an hour that a change of the clock repeats is
// in the window both times, one that it leaves out never comes.
type window struct {
	zone          *time.Location
	after, before int     // after is included, before is not; before < after: over midnight
	days          [7]bool // of the beginning; time.Sunday is 0
}

const day = 24 * 60

func (w *window) contains(now time.Time) bool {
	local := now.In(w.zone)
	minute, weekday := local.Hour()*60+local.Minute(), local.Weekday()
	switch {
	case w.after < w.before:
		return w.after <= minute && minute < w.before && w.days[weekday]
	case minute >= w.after:
		return w.days[weekday]
	}
	return minute < w.before && w.days[(weekday+6)%7] // it began yesterday
}

func parseWindow(value jsontext.Value) (*window, error) {
	bad := func(what string) (*window, error) {
		return nil, fault.New(fault.Invalid, `%s; a time_window is like {"after": "08:00", "before": "18:00", "timezone": "Europe/Berlin", "weekdays": ["mon", "fri"]}`, what)
	}
	var in struct {
		After    *string   `json:"after"`
		Before   *string   `json:"before"`
		Timezone *string   `json:"timezone"`
		Weekdays *[]string `json:"weekdays"`
	}
	if err := json.Unmarshal(value, &in, json.RejectUnknownMembers(true)); err != nil {
		return bad("time_window has an unknown member or a value of the wrong type")
	}
	w := &window{zone: time.UTC, before: day}
	ok := true
	if in.After != nil {
		w.after, ok = parseMinute(*in.After)
	}
	if in.Before != nil && ok {
		w.before, ok = parseMinute(*in.Before)
	}
	if in.Timezone != nil && ok {
		if w.zone, ok = zone(*in.Timezone); !ok {
			return bad("the timezone is not known by this name")
		}
	}
	switch {
	case !ok:
		return bad("after and before must be times from 00:00 to 23:59")
	case w.after == w.before || in.After == nil && in.Before == nil && in.Weekdays == nil:
		return bad("the time_window is empty")
	case !w.setDays(in.Weekdays):
		return bad("weekdays must be a list of mon, tue, wed, thu, fri, sat, sun")
	}
	return w, nil
}

// parseMinute reads "HH:MM".
func parseMinute(text string) (int, bool) {
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == len("15:04")
}

// setDays sets the days that names names, all when it is nil.
func (w *window) setDays(names *[]string) bool {
	if names == nil {
		w.days = [7]bool{true, true, true, true, true, true, true}
		return true
	}
	for _, name := range *names {
		d, ok := weekdays[strings.ToLower(name)]
		if !ok {
			return false
		}
		w.days[d] = true
	}
	return len(*names) > 0
}

// weekdays are the days by their names, short and long.
var weekdays = func() map[string]time.Weekday {
	m := map[string]time.Weekday{}
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := strings.ToLower(d.String())
		m[name], m[name[:3]] = d, d
	}
	return m
}()

// zones remembers what zone found: reading one is reading a file.
var zones sync.Map // name to *time.Location

// zone finds a timezone by its IANA name. "Local" is none: it would be another
// on each server.
func zone(name string) (*time.Location, bool) {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location), true
	}
	z, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" || name != path.Clean(name) { // one file has many names
		return nil, false
	}
	zones.Store(name, z)
	return z, true
}
