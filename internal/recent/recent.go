// Package recent remembers what was used of late, in bounded memory.
package recent

// Map holds the values of the keys that were used of late, in two maps: when the
// younger one is full it becomes the older, and what was not used since the time
// before is forgotten. A look-up allocates nothing. One goroutine may use it at a time.
type Map[K comparable, V any] struct {
	half       int // the most that either may hold
	young, old map[K]V
}

// NewMap holds no more than so many keys, and at least the latest half of them.
func NewMap[K comparable, V any](keys int) Map[K, V] {
	return Map[K, V]{half: max(1, keys/2), young: map[K]V{}}
}

// Get uses key.
func (r *Map[K, V]) Get(key K) (V, bool) {
	v, ok := r.young[key]
	if ok {
		return v, true
	}
	if v, ok = r.old[key]; ok {
		r.Put(key, v)
	}
	return v, ok
}

// Put sets the value of key, and uses it.
func (r *Map[K, V]) Put(key K, v V) {
	if _, known := r.young[key]; !known && len(r.young) >= r.half {
		r.young, r.old = make(map[K]V), r.young
	}
	delete(r.old, key)
	r.young[key] = v
}

// Delete forgets key.
func (r *Map[K, V]) Delete(key K) {
	delete(r.young, key)
	delete(r.old, key)
}

// Len is how many keys are held.
func (r *Map[K, V]) Len() int { return len(r.young) + len(r.old) }
