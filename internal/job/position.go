package job

import (
	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
)

// Decode reads into args, a pointer, what the job was started with, and into
// at, another, the position that the last Step left with At; at the start it
// leaves at as it is. It fails with fault.Damaged when they are of another form.
func (j Job) Decode(args, at any) error {
	err := json.Unmarshal(j.Args, args, json.RejectUnknownMembers(true))
	if err == nil && j.Cursor != "" {
		err = json.Unmarshal([]byte(j.Cursor), at, json.RejectUnknownMembers(true))
	}
	if err != nil {
		return fault.Wrap(fault.Damaged, err, "the job's arguments or cursor are not those of a %s", j.Kind)
	}
	return nil
}

// At returns s with its cursor at the position at, as JSON.
func (s Step) At(at any) (Step, error) {
	cursor, err := json.Marshal(at)
	s.Cursor = string(cursor)
	return s, err
}
