package pipeline

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources are the string literals of this repository, each on lines of its own: comments prove nothing.
type sources struct {
	code  string
	tests map[string]string // by name: of the test, and of all it uses of the tests of its package
}

// declared are the functions, variables and constants of the tests of a package by their name, methods by a dot and their name.
type declared map[string][]ast.Node

func readSources(t *testing.T) sources {
	var code strings.Builder
	packages, set, root := map[string]declared{}, token.NewFileSet(), os.DirFS("..")
	if err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(set, path, b, 0)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			declared{"": {f}}.literals("", map[string]bool{}, &code)
			return nil
		}
		in := filepath.Dir(path) + " " + f.Name.Name
		if packages[in] == nil {
			packages[in] = declared{}
		}
		packages[in].add(f)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	src := sources{code: code.String(), tests: map[string]string{}}
	for _, p := range packages {
		for name := range p {
			if strings.HasPrefix(name, "Test") {
				var said strings.Builder
				p.literals(name, map[string]bool{}, &said)
				src.tests[name] += said.String()
			}
		}
	}
	return src
}

func (p declared) add(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = "." + name
			}
			p[name] = append(p[name], d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range v.Names {
						p[name.Name] = append(p[name.Name], v)
					}
				}
			}
		}
	}
}

// literals writes those of what has a name, and of what that uses. Types are not known: it is all methods of a name.
func (p declared) literals(name string, seen map[string]bool, to *strings.Builder) {
	if seen[name] {
		return
	}
	seen[name] = true
	for _, d := range p[name] {
		var selected *ast.Ident
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr: // comes before what is selected
				selected = n.Sel
				p.literals("."+n.Sel.Name, seen, to)
			case *ast.Ident:
				if n != selected {
					p.literals(n.Name, seen, to)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					to.WriteString("\n" + text + "\n")
				}
			}
			return true
		})
	}
}

// TestFaultsPage holds that all faults are on the page, that the tests, metrics and texts that FAULTS.md names exist, that every row
// names a test, and that one of them has what an operator sees in a string, be it in a helper that it calls.
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
			if _, ok := src.tests[m[1]]; !ok {
				t.Errorf("there is no test %s", m[1])
			}
		}
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(cells[4], -1) {
			if !strings.Contains(src.code, m[1]) {
				t.Errorf("the code never says %q", m[1])
			}
			if !slices.ContainsFunc(named, func(test []string) bool { return strings.Contains(src.tests[test[1]], m[1]) }) {
				t.Errorf("no test of the row looks for %q: %s", m[1], cells[1])
			}
		}
		for _, m := range regexp.MustCompile("`(asiduo_[a-z_]+)`").FindAllStringSubmatch(cells[4], -1) {
			if !slices.ContainsFunc(named, func(test []string) bool { return strings.Contains(src.tests[test[1]], m[1]) }) {
				t.Errorf("no test of the row looks at %s: %s", m[1], cells[1])
			}
		}
	}
	for _, m := range regexp.MustCompile("`asiduo_([a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(src.code, "\n"+m[1]+"\n") && !strings.Contains(src.code, "\nasiduo_"+m[1]+"\n") {
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
