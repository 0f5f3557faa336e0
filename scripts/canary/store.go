package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// store searches every record of the store in dir, as it lies: its key and value.
func (s *search) store(dir string) error {
	// Open would make a store of an empty directory, and find nothing in it.
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	for rec, err := range store.All(context.Background(), st, store.Range{}) {
		if err != nil {
			return err
		}
		s.records++
		s.in("a key of "+dir, []byte(rec.Key))
		s.in("the value of "+rec.Key, rec.Value)
	}
	return nil
}

// plant makes a store that holds the files as its values.
func plant(dir string, files []string) error {
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		var batch store.Batch
		batch.Put("planted:"+filepath.Base(f), b)
		if _, err := st.Commit(context.Background(), &batch); err != nil {
			return err
		}
	}
	return nil
}
