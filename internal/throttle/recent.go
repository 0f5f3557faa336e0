package throttle

// recent remembers the values of the keys that were used of late, in two maps:
// when the younger one is full it becomes the older, and what was not used
// since the time before is forgotten. A look-up allocates nothing.
type recent[K comparable, V any] struct {
	half       int // the most that either may hold
	young, old map[K]V
}

func newRecent[K comparable, V any](keys int) recent[K, V] {
	if keys <= 0 {
		keys = DefaultKeys
	}
	return recent[K, V]{half: max(1, keys/2), young: map[K]V{}}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	v, ok := r.young[key]
	if ok {
		return v, true
	}
	if v, ok = r.old[key]; ok {
		delete(r.old, key)
		r.put(key, v)
	}
	return v, ok
}

// put sets the value of key, which get did not find or found before.
func (r *recent[K, V]) put(key K, v V) {
	if _, known := r.young[key]; !known && len(r.young) >= r.half {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[key] = v
}

func (r *recent[K, V]) delete(key K) {
	delete(r.young, key)
	delete(r.old, key)
}

func (r *recent[K, V]) len() int { return len(r.young) + len(r.old) }
