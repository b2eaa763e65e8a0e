package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/asiduo/asiduo"

// arrows says which of our packages a package may import. A new arrow is a new word here, so that it is seen.
var arrows = map[string][]string{
	"cmd/asiduo":           {"config", "pipeline", "pipeline/parameters", "state", "state/kpi", "state/model", "state/model/fit", "state/model/holdout", "state/store", "sinks/events", "sinks/archive", "sinks/api"},
	"pipeline":             {"config", "pipeline/parameters", "pipeline/transaction", "state", "state/population", "state/store", "sinks/events"},
	"pipeline/oracle":      {},
	"pipeline/parameters":  {"pipeline/transaction", "state", "state/model", "state/population"},
	"pipeline/transaction": {},
	"sinks/archive":        {"state", "state/store"},
	"sinks/api":            {"config", "state", "state/store"},
	"sinks/events":         {"state"},
	"state":                {"state/model", "state/population"},
	"state/kpi":            {},
	"state/model":          {},
	"state/model/fit":      {"state/model"},
	"state/model/holdout":  {"state/model", "state/model/fit"},
	"state/population":     {},
	"state/store":          {"state"},
	"config":               {},
	"bench":                {"config", "pipeline", "pipeline/parameters", "state", "state/store"},
	"bench/asiduo":         {"config", "pipeline", "state"},
	"bench/compare":        {"bench/measure"},
	"bench/measure":        {},
	"bench/workloads":      {"bench/measure"},

	// The tests of deploy know asiduo only from outside; the programs below it know nothing of it.
	"deploy":            {},
	"deploy/dashboards": {},
	"deploy/release":    {},
}

// forbidden says what else a package may not know.
var forbidden = map[string][]string{
	"state":               {"time", "os", "net", "net/http", "context", "sync", "log", "log/slog", "math/rand", "math/rand/v2", "go.opentelemetry.io/", "github.com/cockroachdb/", "github.com/twmb/", "github.com/prometheus/"},
	"state/kpi":           {"os", "net", "context", "sync", "log/slog", "github.com/cockroachdb/", "github.com/twmb/"}, // calendars need time
	"state/model":         {"time", "os", "net", "context", "sync", "log/slog", "github.com/cockroachdb/", "github.com/twmb/"},
	"state/model/fit":     {"time", "os", "net", "context", "sync", "log/slog", "github.com/cockroachdb/", "github.com/twmb/"},
	"state/model/holdout": {"time", "os", "net", "context", "sync", "log/slog", "github.com/cockroachdb/", "github.com/twmb/"},
	"state/population":    {"time", "os", "net", "context", "sync", "log/slog", "github.com/cockroachdb/", "github.com/twmb/"},
	"state/store":         {"github.com/twmb/", "net/http", "github.com/parquet-go/", "github.com/prometheus/"},
	"sinks/events":        {"github.com/cockroachdb/", "github.com/twmb/", "net/http"},
	"sinks/archive":       {"github.com/twmb/", "net/http"},
	"sinks/api":           {"github.com/twmb/", "github.com/parquet-go/"},
	"pipeline":            {"net/http", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters", "github.com/parquet-go/", "github.com/spf13/"},
	"pipeline/parameters": {"net/http", "github.com/cockroachdb/"},
	"config":              {"github.com/cockroachdb/", "github.com/twmb/", "net/http"},
}

// onlyTests are packages that may be imported by tests alone.
var onlyTests = []string{"pipeline/oracle"}

// TestArrows holds every import of the module against the table, and every package to one doc comment.
func TestArrows(t *testing.T) {
	root := filepath.Join("..", "..")
	docs := map[string]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root && d.Name() != "..") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root { // a module of its own
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("package %s is not in the table of arrows", pkg)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		test := strings.HasSuffix(path, "_test.go")
		if f.Doc != nil && !test {
			docs[pkg]++
		}
		if !test {
			checkImports(t, path, pkg, allowed, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("package %s has %d doc comments, not one", pkg, n)
		}
	}
	if len(docs) < 9 {
		t.Errorf("only %d packages have a doc comment", len(docs))
	}
}

func checkImports(t *testing.T, path, pkg string, allowed []string, f *ast.File) {
	t.Helper()
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if ours, ok := strings.CutPrefix(name, module+"/"); ok {
			if !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: package %s may import %v", path, ours, pkg, allowed)
			}
			if slices.Contains(onlyTests, ours) {
				t.Errorf("%s imports %s, which is for tests alone", path, ours)
			}
		}
		for _, no := range forbidden[pkg] {
			if name == no || strings.HasSuffix(no, "/") && strings.HasPrefix(name, no) {
				t.Errorf("%s imports %s, which package %s may not know", path, name, pkg)
			}
		}
		if name == "testing" || strings.HasPrefix(name, "github.com/twmb/franz-go/pkg/kfake") && pkg != "cmd/asiduo" {
			t.Errorf("%s imports %s", path, name)
		}
	}
}

// TestFileSizes keeps files and functions at a size that can be read in one go.
func TestFileSizes(t *testing.T) {
	files, err := filepath.Glob("../../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("../../*/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	deepest, err := filepath.Glob("../../*/*/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(files, deeper, deepest) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 400 {
			t.Errorf("%s has %d lines, more than 400", path, n)
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line; n > 70 {
				t.Errorf("%s: %s has %d lines, more than 70", path, fn.Name.Name, n)
			}
		}
	}
}
