package config

import (
	"fmt"
	"sort"
	"strings"
)

// Fault is one thing that is wrong with a configuration. Line and Col count from 1 and are 0 where there is no file.
type Fault struct {
	File    string
	Line    int
	Col     int
	Message string
}

// Error is the fault on one line: file:line:col: message.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Message)
}

// Faults is everything that is wrong with a configuration, in the order of the file.
type Faults []Fault

// Error is one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the faults one by one to errors.Is and errors.As.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// orNil sorts the faults; without any the error is nil.
func (fs Faults) orNil() error {
	if len(fs) == 0 {
		return nil
	}
	sort.SliceStable(fs, func(i, j int) bool {
		if fs[i].Line != fs[j].Line {
			return fs[i].Line < fs[j].Line
		}
		return fs[i].Col < fs[j].Col
	})
	return fs
}
