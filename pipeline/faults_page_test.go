package pipeline

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unlooked are the texts that no test of their row looks for: its tests run whole processes, and look at what comes out.
var unlooked = map[string]bool{"shard restored": true, "configuration_changed": true}

// sources are all of this repository.
type sources struct {
	code, tests string
	in          map[string]string // the file of a test
	methods     map[string]string // of tests
}

func readSources(t *testing.T) sources {
	var code, tests strings.Builder
	src := sources{in: map[string]string{}, methods: map[string]string{}}
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
				src.in[m[1]] += text
			}
			for _, m := range regexp.MustCompile(`(?ms)^func \(\w+ \*?\w+\) (\w+)\(.*?^}`).FindAllStringSubmatch(text, -1) {
				src.methods[m[1]] += m[0]
			}
		}
		to.WriteString(text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	src.code, src.tests = code.String(), tests.String()
	return src
}

// looks says whether the file of a test names a metric, or calls a method that does.
func (s *sources) looks(test, metric string) bool {
	if strings.Contains(s.in[test], metric) {
		return true
	}
	for name, body := range s.methods {
		if strings.Contains(body, metric) && strings.Contains(s.in[test], "."+name+"(") {
			return true
		}
	}
	return false
}

// TestFaultsPage holds that all faults are on the page, that the tests, metrics and texts that FAULTS.md names exist, that every row
// names a test, and that what an operator sees is in the file of one of them, metrics also in a helper that the file calls.
func TestFaultsPage(t *testing.T) {
	page, err := os.ReadFile("FAULTS.md")
	if err != nil {
		t.Fatal(err)
	}
	src := readSources(t)
	numbers := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| # ") {
			continue
		}
		if len(cells) != 6 {
			t.Errorf("a row of %d cells: %s", len(cells), line)
			continue
		}
		numbers[strings.Trim(cells[0], "| ")] = true
		named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, m := range named {
			if !strings.Contains(src.tests, "\nfunc "+m[1]+"(t *testing.T)") {
				t.Errorf("there is no test %s", m[1])
			}
		}
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(cells[4], -1) {
			if !strings.Contains(src.code, m[1]) {
				t.Errorf("the code never says %q", m[1])
			}
			if !unlooked[m[1]] && !slices.ContainsFunc(named, func(test []string) bool { return strings.Contains(src.in[test[1]], m[1]) }) {
				t.Errorf("no test of the row looks for %q", m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(asiduo_[a-z_]+)`").FindAllStringSubmatch(cells[4], -1) {
			if !slices.ContainsFunc(named, func(test []string) bool { return src.looks(test[1], m[1]) }) {
				t.Errorf("no test of the row looks at %s: %s", m[1], cells[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`asiduo_([a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(src.code, `"`+m[1]+`"`) && !strings.Contains(src.code, `"asiduo_`+m[1]+`"`) {
			t.Errorf("there is no metric asiduo_%s", m[1])
		}
	}
	for n := 1; n <= 30; n++ {
		if !numbers[strconv.Itoa(n)] {
			t.Errorf("no row of fault %d", n)
		}
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
