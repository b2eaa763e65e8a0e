package api

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	lookEvery = time.Second // files are not looked at more often
	maxFile   = 1 << 20     // bytes; no certificate or list of tokens is longer
)

// kept is made of files, and made anew when their contents change. While they cannot be used, what was made last stays:
// files are not replaced in one moment, and a listener that lets nobody in until somebody notices helps nobody.
type kept[T any] struct {
	files []string
	from  func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	looked time.Time
	was    [][]byte
	made   T
	fault  string // that was logged last
}

// keep makes it for the first time.
func keep[T any](files []string, from func([][]byte) (T, error), log *slog.Logger) (*kept[T], error) {
	k := &kept[T]{files: files, from: from, log: log}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k, k.look()
}

// get is what the files say now.
func (k *kept[T]) get() T {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < lookEvery {
		return k.made
	}
	fault := ""
	if err := k.look(); err != nil {
		fault = err.Error()
	}
	if fault != "" && fault != k.fault {
		k.log.Error("a file of a listener cannot be used, what it said before counts", "err", fault)
	}
	k.fault = fault
	return k.made
}

func (k *kept[T]) look() error {
	k.looked = time.Now()
	contents := make([][]byte, len(k.files))
	for i, name := range k.files {
		var err error
		if contents[i], err = readFile(name); err != nil {
			return err
		}
	}
	if k.was != nil && slices.EqualFunc(contents, k.was, bytes.Equal) {
		return nil
	}
	made, err := k.from(contents)
	if err != nil {
		return err
	}
	if k.was != nil {
		k.log.Info("a file of a listener has changed and counts", "files", k.files)
	}
	k.made, k.was = made, contents
	return nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is longer than 1 MiB", name)
	}
	return b, err
}
