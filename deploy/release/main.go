// Command release makes what a release consists of, from a clean clone and without a network: static binaries, one
// archive and one bill of materials (CycloneDX 1.5) each, the chart, and SHA256SUMS. Two runs on the same commit with the
// same Go give the same bytes, wherever they run.
//
//	go run ./deploy/release -version 1.2.3 -out dist [-only linux/amd64] [-dirty]
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
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
	info, err := buildinfo.ReadFile(filepath.Join(out, names[0]))
	if err != nil {
		return err
	}
	err = chart(cmp.Or(version, info.Main.Version), filepath.Join(out, "asiduo_chart.tgz"), when)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return sums(out, append(names, "asiduo_chart.tgz"))
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

// file is one of an archive.
type file struct {
	name string
	mode fs.FileMode
	data []byte
}

// pack is an archive of the binary and what belongs beside it.
func pack(binary []byte, when time.Time) ([]byte, error) {
	files := []file{{"asiduo", 0o755, binary}}
	for _, name := range besides {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{filepath.Base(name), 0o644, data})
	}
	return archive(files, when)
}

// chart writes the chart as "helm package" does, with the version for itself and for the image.
func chart(version, out string, when time.Time) error {
	const dir = "deploy/helm/asiduo"
	var files []file
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "ci/") || name == ".helmignore" {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if name == "Chart.yaml" && version != "(devel)" {
			data = bytes.Replace(data, []byte("version: 0.0.0\n"), []byte("version: "+strings.TrimPrefix(version, "v")+"\n"), 1)
			data = bytes.Replace(data, []byte(`appVersion: "0.0.0"`), []byte(`appVersion: "`+version+`"`), 1)
		}
		files = append(files, file{name, 0o644, data})
		return err
	})
	if err != nil {
		return err
	}
	packed, err := archive(files, when)
	if err != nil {
		return err
	}
	return os.WriteFile(out, packed, 0o644) // #nosec G306 -- for everybody
}

// archive is a tar.gz of files in the directory asiduo.
func archive(files []file, when time.Time) ([]byte, error) {
	var text bytes.Buffer
	zip := gzip.NewWriter(&text) // its header carries neither name nor time
	w := tar.NewWriter(zip)
	for _, f := range files {
		h := &tar.Header{Name: "asiduo/" + f.name, Mode: int64(f.mode), Size: int64(len(f.data)), ModTime: when.UTC(), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
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
