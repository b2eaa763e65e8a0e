package pipeline

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unlooked are the texts that no test of their row looks for: its tests run whole processes, and look at what comes out.
var unlooked = map[string]bool{"shard restored": true, "diverged": true, "configuration_changed": true}

// TestFaultsPage holds that the tests, metrics and texts that FAULTS.md names exist, that every row names a test, and that
// what an operator sees is in the file of one of them.
func TestFaultsPage(t *testing.T) {
	page, err := os.ReadFile("FAULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	var code, tests strings.Builder
	in := map[string]string{} // the file of a test
	root := os.DirFS("..")
	if err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		to, text := &code, strings.ReplaceAll(string(b), `\"`, `"`)
		if strings.HasSuffix(path, "_test.go") {
			to = &tests
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing`).FindAllStringSubmatch(text, -1) {
				in[m[1]] += text
			}
		}
		to.WriteString(text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| # ") {
			continue
		}
		rows++
		if len(cells) != 6 {
			t.Errorf("a row of %d cells: %s", len(cells), line)
			continue
		}
		named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, m := range named {
			if !strings.Contains(tests.String(), "\nfunc "+m[1]+"(t *testing.T)") {
				t.Errorf("there is no test %s", m[1])
			}
		}
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(cells[4], -1) {
			if !strings.Contains(code.String(), m[1]) {
				t.Errorf("the code never says %q", m[1])
			}
			if !unlooked[m[1]] && !slices.ContainsFunc(named, func(test []string) bool { return strings.Contains(in[test[1]], m[1]) }) {
				t.Errorf("no test of the row looks for %q", m[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`asiduo_([a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(code.String(), `"`+m[1]+`"`) && !strings.Contains(code.String(), `"asiduo_`+m[1]+`"`) {
			t.Errorf("there is no metric asiduo_%s", m[1])
		}
	}
	if rows < 30 {
		t.Errorf("only %d rows", rows)
	}
}

// TestStopsAreInTheRunbook: whoever is called because a shard has stopped finds its reason on the page of the alert.
func TestStopsAreInTheRunbook(t *testing.T) {
	page, err := os.ReadFile("../deploy/runbooks/AsiduoShardNotServed.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	reason := regexp.MustCompile(`stopError\{"([a-z_]+)"|gone\.reason[^"\n]*= "(input_[a-z]+)"|reason: "(input_[a-z]+)"`)
	found := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reason.FindAllStringSubmatch(string(code), -1) {
			found[m[1]+m[2]+m[3]] = true
		}
	}
	if len(found) < 12 {
		t.Errorf("only %v were found in the code", found)
	}
	for name := range found {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("the page does not name %s", name)
		}
	}
}
