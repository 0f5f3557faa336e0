package access

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"
)

func drawAddr(t *rapid.T) netip.Addr {
	return rapid.SampledFrom([]netip.Addr{
		{}, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("192.0.2.7"),
		netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db9::1"),
	}).Draw(t, "addr")
}

// drawTime is any minute of some weeks that hold a change of the clock in
// Berlin, New York and Lord Howe (half an hour), or its last moment.
func drawTime(t *rapid.T) time.Time {
	start := rapid.SampledFrom([]time.Time{
		time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC),
	}).Draw(t, "start")
	at := start.Add(time.Duration(rapid.IntRange(0, 8*day).Draw(t, "minute")) * time.Minute)
	return at.Add(rapid.SampledFrom([]time.Duration{0, 0, time.Minute - 1}).Draw(t, "moment"))
}

// drawConditions is well-formed, mostly.
func drawConditions(t *rapid.T) []byte {
	m := map[string]any{}
	if rapid.Bool().Draw(t, "ip") {
		m["ip_allowlist"] = rapid.OneOf(
			rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{
				"10.1.2.3", "10.0.0.0/8", "10.1.2.99/24", "::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "2001:db8::/32", "0.0.0.0/0", "::/0", "2001:db8::7", "10.1.2.3/33", "x", "",
			}), 0, 3), func(s []string) any { return s }),
			rapid.SampledFrom([]any{nil, "10.0.0.0/8", 7, []int{1}, map[string]any{}}),
		).Draw(t, "list")
	}
	if rapid.Bool().Draw(t, "window") {
		m["time_window"] = rapid.OneOf(rapid.Custom(drawWindow), rapid.SampledFrom([]any{nil, "09:00", []any{}})).Draw(t, "time_window")
	}
	switch rapid.IntRange(0, 20).Draw(t, "other") {
	case 0:
		m["environment_in"] = []string{"production"}
	case 1:
		m["moon"] = "full"
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return rapid.SampledFrom([][]byte{raw, raw, raw, raw, raw, raw, raw, []byte("{"), []byte("null"), []byte("[]")}).Draw(t, "raw")
}

func drawWindow(t *rapid.T) any {
	m := map[string]any{}
	clock := func(name string) {
		if rapid.IntRange(0, 4).Draw(t, name) > 0 {
			m[name] = fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.SampledFrom([]int{0, 0, 30, 59}).Draw(t, "minute"))
		}
	}
	clock("after")
	clock("before")
	if z := rapid.SampledFrom([]string{"-", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "No/Such"}).Draw(t, "zone"); z != "-" {
		m["timezone"] = z
	}
	if rapid.Bool().Draw(t, "days") {
		m["weekdays"] = rapid.SliceOfN(rapid.SampledFrom([]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}), 0, 4).Draw(t, "weekdays")
	}
	return m
}
