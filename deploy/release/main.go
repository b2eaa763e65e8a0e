// Command release makes what a release consists of, from a clean clone and without a network: static binaries, one
// archive and one bill of materials (CycloneDX 1.5) each, and SHA256SUMS. Two runs on the same commit with the same Go
// give the same bytes, wherever they run.
//
//	go run ./deploy/release -version 1.2.3 -out dist [-only linux/amd64] [-dirty]
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// platforms are those that binaries are made for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// besides are the files that an archive holds beside the binary.
var besides = []string{"LICENSE", "README.md", "CHANGELOG.md", "deploy/asiduo.yaml", "deploy/asiduo.schema.json", "deploy/systemd/asiduo.service"}

// semver is what a version looks like, without a v before it.
var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

func main() {
	version := flag.String("version", "", "version to stamp, such as 1.2.3 (default: the commit's pseudo version)")
	out := flag.String("out", "dist", "directory to write into")
	only := flag.String("only", "", "a single platform, such as linux/amd64")
	dirty := flag.Bool("dirty", false, "also from a tree with changes that are not committed; the binary says so")
	flag.Parse()
	if err := release(*version, *out, *only, *dirty); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release writes everything below out, which it may replace only file by file.
func release(version, out, only string, dirty bool) error {
	if version != "" && !semver.MatchString(version) {
		return fmt.Errorf("-version %q is not a version such as 1.2.3", version)
	}
	changed, err := exec.Command("git", "status", "--porcelain").Output()
	if err != nil {
		return fmt.Errorf("ask git for changes: %w", err)
	}
	if len(changed) > 0 && !dirty {
		return fmt.Errorf("there are changes that are not committed (-dirty builds them all the same):\n%s", changed)
	}
	chosen := platforms
	if only != "" {
		if !slices.Contains(platforms, only) {
			return fmt.Errorf("-only %q is not one of %v", only, platforms)
		}
		chosen = []string{only}
	}
	when, err := commitTime()
	if err != nil {
		return err
	}
	err = os.MkdirAll(out, 0o755) // #nosec G301 -- for everybody
	if err != nil {
		return err
	}
	var names []string
	for _, platform := range chosen {
		made, err := build(version, out, platform, when, dirty)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		names = append(names, made...)
	}
	return sums(out, names)
}

// commitTime stamps what is made: the time of making would differ.
func commitTime() (time.Time, error) {
	text, err := exec.Command("git", "show", "-s", "--format=%cI", "HEAD").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask git for the time of the commit: %w", err)
	}
	return time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
}

// build makes the binary of one platform, its archive and its bill of materials, and returns their names.
func build(version, out, platform string, when time.Time, dirty bool) ([]string, error) {
	system, arch, _ := strings.Cut(platform, "/")
	name := "asiduo_" + system + "_" + arch
	binary := filepath.Join(out, name)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=true", "-ldflags", "-s -w -buildid= -X main.version="+version, "-o", binary, "./cmd/asiduo") // #nosec G204 -- of who makes the release
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" }) && !dirty {
		return nil, errors.New("the binary does not know its commit: Go does not stamp it in a work tree of git; make releases in a clone")
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	bill, err := billOfMaterials(info, version, name, data, when)
	if err != nil {
		return nil, err
	}
	packed, err := pack(data, when)
	if err != nil {
		return nil, err
	}
	return []string{name, name + ".cdx.json", name + ".tar.gz"}, errors.Join(
		os.WriteFile(binary+".cdx.json", bill, 0o644), // #nosec G306 -- for everybody
		os.WriteFile(binary+".tar.gz", packed, 0o644), // #nosec G306 -- for everybody
	)
}

// pack is an archive with the binary and what belongs beside it.
func pack(binary []byte, when time.Time) ([]byte, error) {
	var text bytes.Buffer
	zip := gzip.NewWriter(&text) // its header carries neither name nor time
	w := tar.NewWriter(zip)
	add := func(name string, mode fs.FileMode, data []byte) error {
		h := &tar.Header{Name: "asiduo/" + name, Mode: int64(mode), Size: int64(len(data)), ModTime: when.UTC(), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	if err := add("asiduo", 0o755, binary); err != nil {
		return nil, err
	}
	for _, file := range besides {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := add(filepath.Base(file), 0o644, data); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), zip.Close())
	return text.Bytes(), err
}

// sums writes SHA256SUMS, which sha256sum -c reads.
func sums(out string, names []string) error {
	var text strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(data), name)
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(text.String()), 0o644) // #nosec G306 -- for everybody
}
