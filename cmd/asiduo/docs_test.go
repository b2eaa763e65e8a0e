package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/asiduo/asiduo/config"
)

// pages are what people read.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md", "deploy/*/*.md", "bench/*.md", "pipeline/*.md"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

var fencedBlock = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```")

// inlineCommand is a command of ours within a sentence, with something behind its name.
var inlineCommand = regexp.MustCompile("`(asiduo [^`]*-[^`]*)`")

// TestPages holds that every command of ours on any page is one, with flags that there are, every target of make is one, and every
// configuration one that can be read. What the commands do is held by TestKafkaDocs, TestKafkaReadme, TestProveIt, and the runbooks' test.
func TestPages(t *testing.T) {
	targets, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	commands, configurations := 0, 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fencedBlock.FindAllSubmatch(text, -1) {
			switch lang, body := string(block[1]), string(block[2]); lang {
			case "sh":
				for _, args := range commandsOf(t, page, body) {
					commands++
					if err := parsed(args, string(targets)); err != nil {
						t.Errorf("%s: %q: %v", page, args, err)
					}
				}
			case "yaml":
				configurations++
				if _, err := config.Parse("page.yaml", []byte("app: shop\ncurrency: EUR\n"+body), nil); err != nil {
					t.Errorf("%s: %v\n%s", page, err, body)
				}
			case "", "text", "promql", "json":
			default:
				t.Errorf("%s: nobody looks at blocks of %q", page, lang)
			}
		}
		for _, span := range inlineCommand.FindAllSubmatch(fencedBlock.ReplaceAll(text, nil), -1) {
			if bytes.Contains(span[1], []byte("COMMAND")) {
				continue
			}
			commands++
			if err := parsed(strings.Fields(string(span[1])), ""); err != nil {
				t.Errorf("%s: %s: %v", page, span[1], err)
			}
		}
	}
	if commands < 45 || configurations < 5 {
		t.Errorf("%d commands and %d configurations were found", commands, configurations)
	}
	t.Logf("%d commands, %d configurations", commands, configurations)
}

// commandsOf are the calls of asiduo and of make when a shell runs a block, where there is nothing else to call.
func commandsOf(t *testing.T, page, block string) [][]string {
	t.Helper()
	block = strings.NewReplacer("./asiduo ", "asiduo ", "go run ./cmd/asiduo ", "asiduo ").Replace(block)
	const around = `asiduo() { printf '%s\n' asiduo "$@" >>"$calls"; printf '\0' >>"$calls"; }
make() { printf '%s\n' make "$@" >>"$calls"; printf '\0' >>"$calls"; }
timeout() { shift; "$@"; }
command_not_found_handle() { :; }
` // one that is not there does nothing
	calls := filepath.Join(t.TempDir(), "calls")
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", around+block)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=/nowhere", "calls=" + calls, "bootstrap=localhost:9092", "run=run", "archive=archive"}
	if out, err := cmd.CombinedOutput(); bytes.Contains(out, []byte("syntax error")) {
		t.Errorf("%s: %v\n%s\n%s", page, err, out, block)
	}
	text, err := os.ReadFile(calls)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x00"), "\x00") {
		all = append(all, strings.Split(strings.TrimSuffix(call, "\n"), "\n"))
	}
	return all
}

// parsed says what is wrong with a call of a command of ours, or of make.
func parsed(call []string, targets string) error {
	args := call[1:]
	if call[0] == "make" {
		for _, target := range args {
			if !strings.Contains(target, "=") && !strings.Contains(targets, "\n"+target+":") {
				return fmt.Errorf("there is no target %s", target)
			}
		}
		return nil
	}
	root := newRoot()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(slices.Clone(cmd.Flags().Args()))
}
