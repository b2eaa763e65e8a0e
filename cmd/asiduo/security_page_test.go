package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSecurityPage holds that the tests and configuration keys that SECURITY.md names exist, and that every row of its
// table names a test.
func TestSecurityPage(t *testing.T) {
	root := os.DirFS("../..")
	page, err := fs.ReadFile(root, "SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := fs.ReadFile(root, "docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	if err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(root, path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\([a-z]+ \*testing`).FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(line, -1)
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("there is no test %s", m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(access\\.[a-z_]+)").FindAllStringSubmatch(line, -1) {
			if !strings.Contains(string(reference), "`api."+m[1]+"`") {
				t.Errorf("there is no key api.%s", m[1])
			}
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| who | wants") {
			continue
		}
		rows++
		if cells := strings.Split(line, " | "); len(cells) != 4 || len(named) == 0 {
			t.Errorf("a row of %d cells, %d tests: %s", len(cells), len(named), line)
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows", rows)
	}
}

// TestFilesArePrivate looks at what a process leaves on the disk: others of the machine cannot read it.
func TestFilesArePrivate(t *testing.T) {
	w := newTown(t)
	s := w.run()
	s.ready(townShards)
	w.buy("canary-ana", "o1", time.Now())
	w.expect("canary-ana", "", "new", "order")
	if status, body, _ := s.ask("POST", s.admin, "/v1/snapshot"); status != http.StatusOK {
		t.Errorf("snapshot: %d %s", status, body)
	}
	s.stop()
	for dir, others := range map[string]fs.FileMode{s.cfg.State.Dir: 0o077, s.cfg.Archive.Dir: 0o027} {
		n := 0
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			n++
			// Within a directory that nobody may enter it does not matter how files are marked.
			if mode := info.Mode().Perm(); mode&others != 0 && (path == dir || dir == s.cfg.Archive.Dir) {
				t.Errorf("%s: %v", path, mode)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n < 5 {
			t.Errorf("%s has only %d files", dir, n)
		}
	}
}
