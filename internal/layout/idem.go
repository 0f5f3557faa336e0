package layout

import "fmt"

// Idem is the key of what is kept of a write that came with an Idempotency-Key:
//
//	idem:<day>:<name>     see package idem
//
// day counts from 1970, in 6 digits; name is 32 hex digits.
func Idem(day int64, name string) string { return IdemDay(day) + name }

// IdemDay begins the keys of all that is kept of a day.
func IdemDay(day int64) string { return fmt.Sprintf("%s%06d:", Idems(), day) }

// Idems begins the keys of all of them.
func Idems() string { return "idem:" }

// IdemAnswer is where the answer to such a write lies that is a secret: the owner and
// the name of a sealed row of the kind "idem".
func IdemAnswer(day int64) (owner string) { return fmt.Sprintf("%06d", day) }

// IdemAnswers begins the keys of all such answers.
func IdemAnswers() string { return AllSealed() + "idem:" }

// IdemAnswerDay begins the keys of those of a day.
func IdemAnswerDay(day int64) string { return IdemAnswers() + IdemAnswer(day) + ":" }
