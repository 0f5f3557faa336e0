package main

import (
	"time"

	"github.com/keyfold/keyfold/internal/cli"
)

// timeForms are what parseExpiry reads.
const timeForms = "a time like 2027-01-31T12:00:00Z, or a duration like 720h"

// parseExpiry reads a flag that is a time or a duration from now; zero when
// empty.
func parseExpiry(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return time.Time{}, cli.Usagef("--%s wants %s", flag, timeForms)
	}
	return now.Add(d), nil
}

// pointInTime is parseExpiry from this moment on; nil when empty.
func pointInTime(flag, s string) (*time.Time, error) {
	t, err := parseExpiry(flag, s, time.Now())
	if err != nil || t.IsZero() {
		return nil, err
	}
	return &t, nil
}

// pastTime reads a flag that is a time, or a duration before now; zero when empty.
func pastTime(flag, s string) (time.Time, error) {
	now := time.Now()
	t, err := parseExpiry(flag, s, now)
	if err != nil {
		return t, cli.Usagef("--%s wants a time like 2027-01-31T12:00:00Z, or how long ago, like 24h", flag)
	}
	if _, err := time.ParseDuration(s); err == nil {
		t = now.Add(-t.Sub(now))
	}
	return t, nil
}
