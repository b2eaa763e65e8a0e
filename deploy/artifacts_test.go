//go:build deploy

package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// tool is a program that .ci/deploy-test.sh has installed somewhere else than on the path.
func tool(t *testing.T, variable string) string {
	t.Helper()
	at := os.Getenv(variable)
	if at == "" {
		t.Fatalf("%s is not set: run make deploy-test", variable)
	}
	return at
}

// TestRelease holds what a release consists of against what it says about itself.
func TestRelease(t *testing.T) {
	dist := releaseOf(t, "here")
	run(t, nil, "bash", "-c", `cd "$1" && sha256sum --check --strict --quiet SHA256SUMS`, "-", dist)
	name := "asiduo_linux_" + runtime.GOARCH
	file := filepath.Join(dist, name)
	if out, err := try(t.Context(), nil, "ldd", file); err == nil || !strings.Contains(out, "not a dynamic executable") {
		t.Errorf("ldd: %v, %s", err, out)
	}
	var version struct{ Version, Revision, Go, Platform string }
	if err := json.Unmarshal([]byte(run(t, nil, file, "version", "--json")), &version); err != nil {
		t.Fatal(err)
	}
	if version.Version != "0.0.1-test" || !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(version.Revision) || version.Platform != "linux/"+runtime.GOARCH {
		t.Errorf("version: %+v", version)
	}
	// Every module that the Go command knows to be in the binary is in the bill, with its version, and no other.
	var bill struct {
		SpecVersion, SerialNumber string
		Components                []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal([]byte(read(t, file+".cdx.json")), &bill); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("purl %s of %s %s", c.PURL, c.Name, c.Version)
		}
	}
	modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(run(t, nil, "go", "version", "-m", file), -1)
	for _, m := range modules {
		if listed[m[1]] != m[2] {
			t.Errorf("%s %s is in the binary, the bill says %q", m[1], m[2], listed[m[1]])
		}
	}
	if len(modules) < 20 || len(bill.Components) != len(modules)+1 || bill.SpecVersion != "1.5" || !strings.HasPrefix(bill.SerialNumber, "urn:uuid:") {
		t.Errorf("%d components for %d modules, CycloneDX %s, %s", len(bill.Components), len(modules), bill.SpecVersion, bill.SerialNumber)
	}
	// Again, from another directory and another time zone: the same bytes.
	again := releaseOf(t, "elsewhere", "TZ=Pacific/Auckland", "LC_ALL=C", "HOME="+t.TempDir())
	for _, made := range []string{name, name + ".cdx.json", name + ".tar.gz", "asiduo_chart.tgz"} {
		if read(t, filepath.Join(dist, made)) != read(t, filepath.Join(again, made)) {
			t.Errorf("%s differs between two builds", made)
		}
	}
}

// releaseOf makes the release of this machine's platform in a new clone, and returns where it is.
func releaseOf(t *testing.T, name string, env ...string) string {
	t.Helper()
	clone := filepath.Join(t.TempDir(), name)
	run(t, nil, "git", "clone", "--quiet", "--no-hardlinks", path(), clone)
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // which hang on HOME
		env = append(env, key+"="+strings.TrimSpace(run(t, nil, "go", "env", key)))
	}
	run(t, env, "go", "run", "-C", clone, "./deploy/release", "-version", "0.0.1-test", "-only", "linux/"+runtime.GOARCH)
	return filepath.Join(clone, "dist")
}

// TestReleaseRefuses says what a release is not made from.
func TestReleaseRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		`release: -version "v1" is not a version such as 1.2.3`:                                         {"-version", "v1"},
		`release: -only "plan9/mips" is not one of [linux/amd64 linux/arm64 darwin/amd64 darwin/arm64]`: {"-dirty", "-only", "plan9/mips"},
	} {
		out, err := try(t.Context(), nil, "go", append([]string{"run", "./release", "-out", t.TempDir()}, args...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestImage builds the image twice and starts it: it holds one file, and asiduo runs in it as nobody.
func TestImage(t *testing.T) {
	run(t, nil, tool(t, "HADOLINT"), "image/Dockerfile")
	dist := t.TempDir()
	name := "asiduo_linux_" + runtime.GOARCH
	run(t, nil, "cp", binary(t), filepath.Join(dist, name))
	run(t, nil, "cp", chart(t), dist)
	sums := map[string]bool{}
	image := filepath.Join(dist, "asiduo_image_"+runtime.GOARCH+".tar")
	for _, named := range [][]string{{"asiduo:test"}, nil} {
		run(t, nil, "bash", append([]string{"image/build.sh", dist, runtime.GOARCH}, named...)...)
		var manifest struct{ Digest string }
		if err := json.Unmarshal([]byte(run(t, nil, "skopeo", "inspect", "oci-archive:"+image)), &manifest); err != nil {
			t.Fatal(err)
		}
		sums[manifest.Digest] = true
	}
	if len(sums) != 1 {
		t.Errorf("two builds, two images: %v", sums)
	}
	if index := run(t, nil, "tar", "-xOf", image, "index.json"); !strings.Contains(index, `"asiduo:0.0.1-test"`) {
		t.Errorf("without a name it is not called as the release is: %s", index)
	}
	store := []string{"--storage-driver", "vfs", "--root", filepath.Join(dist, "root"), "--runroot", filepath.Join(dist, "run")}
	buildah := func(args ...string) string {
		return strings.TrimSpace(run(t, nil, "buildah", append(store, args...)...))
	}
	from := buildah("from", "oci-archive:"+image)
	root := buildah("mount", from)
	files := run(t, nil, "find", root, "-mindepth", "1", "-type", "f", "-printf", "%P %m\n")
	if files != "asiduo 555\n" {
		t.Errorf("the image holds %s", files)
	}
	if owner := run(t, nil, "stat", "-c", "%u:%g %a", filepath.Join(root, "var/lib/asiduo")); owner != "65532:65532 755\n" {
		t.Errorf("the directory of the state is %s", owner)
	}
	// As Kubernetes starts it: nobody's user, no way to more, nothing that can be written but the volume. The demo is the
	// whole pipeline with a broker inside.
	out := run(t, nil, "unshare", "--mount", "bash", "-euc", `
		mount --make-rprivate /
		mount --bind "$1" "$1"
		mount -t tmpfs -o uid=65532,gid=65532,mode=0700 tmpfs "$1/var/lib/asiduo"
		mount -o remount,bind,ro "$1"
		cd /
		exec env -i PATH=/usr/sbin:/usr/bin TMPDIR=/var/lib/asiduo setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$1" /asiduo demo --exit`, "-", root)
	if !strings.Contains(out, "champions") {
		t.Errorf("the demo in the image: %s", out)
	}
	buildah("rm", from)
}

// TestSystemd verifies the unit; TestLive starts it.
func TestSystemd(t *testing.T) {
	unit := strings.ReplaceAll(read(t, "systemd/asiduo.service"), "/usr/local/bin/asiduo", binary(t))
	file := write(t, filepath.Join(t.TempDir(), "asiduo.service"), unit)
	run(t, nil, "systemd-analyze", "verify", file)
	lines := strings.Split(strings.TrimSpace(run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold=20", file)), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, " 1.2 OK") {
		t.Errorf("the unit says 1.2, systemd: %s", last)
	}
}

// chart is that of the release which binary is from.
func chart(t *testing.T) string {
	t.Helper()
	return filepath.Join(filepath.Dir(binary(t)), "asiduo_chart.tgz")
}

// TestHelm lints the chart of the release, holds what it makes against the schemas of Kubernetes, and loads the configuration in it.
func TestHelm(t *testing.T) {
	helm, chart := tool(t, "HELM"), chart(t)
	values, err := filepath.Glob("helm/asiduo/ci/*-values.yaml")
	if err != nil || len(values) < 2 {
		t.Fatal(values, err)
	}
	for _, file := range values {
		t.Run(filepath.Base(file), func(t *testing.T) {
			run(t, nil, helm, "lint", "--strict", chart, "-f", file)
			text := run(t, nil, helm, "template", "shop", chart, "-n", "loyalty", "-f", file)
			core, kinds := "", map[string]int{}
			for _, one := range regexp.MustCompile(`(?m)^---\n`).Split(text, -1) {
				var o struct {
					APIVersion string `yaml:"apiVersion"`
					Kind       string
					Spec       map[string]any
					Data       map[string]string
				}
				if err := yaml.Unmarshal([]byte(one), &o); err != nil {
					t.Fatalf("%v\n%s", err, one)
				}
				if o.Kind == "" {
					continue
				}
				kinds[o.Kind]++
				if !strings.HasPrefix(o.APIVersion, "monitoring.coreos.com/") {
					core += "---\n" + one
				}
				if cfg := o.Data["asiduo.yaml"]; cfg != "" {
					run(t, []string{"KAFKA_PASSWORD=x", "POD_NAME=shop-asiduo-0"}, binary(t), "check", "-c", write(t, filepath.Join(t.TempDir(), "asiduo.yaml"), cfg))
				}
				if o.Kind == "PrometheusRule" {
					rules, err := yaml.Marshal(o.Spec)
					if err != nil {
						t.Fatal(err)
					}
					run(t, nil, "promtool", "check", "rules", write(t, filepath.Join(t.TempDir(), "rules.yaml"), string(rules)))
				}
			}
			run(t, nil, tool(t, "KUBERNETES_VALIDATE"), "--strict", "--quiet", write(t, filepath.Join(t.TempDir(), "all.yaml"), core))
			t.Log(kinds)
		})
	}
	for want, set := range map[string]string{
		"config.app":          "config.app=UPPER",
		"config.currency":     "config.currency=euro",
		"brokers":             "config.kafka.brokers[0]=nowhere",
		"replica":             "replica=3",
		"config.api":          "config.api.listen=0.0.0.0:8080",
		"archive":             "archive.enabled=true",
		"api.tokensSecret":    "api.enabled=true",
		"tls.secret":          "api.tls.clientCertificates=true",
		"image.digest":        "image.digest=latest",
		"networkPolicy.kafka": "networkPolicy.kafka.ports=9092",
	} {
		out, err := try(t.Context(), nil, helm, "template", "shop", chart, "-f", values[1], "--set", set)
		key := want[strings.LastIndex(want, ".")+1:]
		if err == nil || !strings.Contains(out, key) {
			t.Errorf("--set %s: %v\n%s", set, err, out)
		}
	}
	// What the README installs asks for the image of its release, also when it is changed.
	page := strings.NewReplacer("dist/asiduo_chart.tgz", chart, " --reuse-values", "")
	install := page.Replace(lineOf(t, "README.md", "helm install shop "))
	for _, more := range []string{"", page.Replace(lineOf(t, "README.md", "helm upgrade shop "))} {
		made := run(t, nil, "bash", "-euc", fmt.Sprintf(`helm() { "$HELM" template "${@:2}"; }; %s`, install+strings.TrimPrefix(more, "helm upgrade shop "+chart)))
		if !strings.Contains(made, "image: registry.example/asiduo:0.0.1-test\n") || strings.Contains(made, "readers") != (more != "") {
			t.Errorf("%s makes\n%s", install, made)
		}
	}
	// The validator finds what is wrong: without this, a change of its flags could silence it.
	if _, err := try(t.Context(), nil, tool(t, "KUBERNETES_VALIDATE"), "--strict", write(t, filepath.Join(t.TempDir(), "bad.yaml"),
		"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{prot: 80}]}\n")); err == nil {
		t.Error("kubernetes-validate takes anything")
	}
}

// lineOf is that of a page which begins so.
func lineOf(t *testing.T, page, begin string) string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, page), "\n"+begin)
	rest, _, _ = strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("%s has no line %q", page, begin)
	}
	return begin + rest
}

// TestCompose loads the file as compose does, and holds what it mounts, publishes and configures against what there is.
func TestCompose(t *testing.T) {
	check, token := tool(t, "COMPOSE_CHECK"), "ASIDUO_TOKEN="+strings.Repeat("0123456789abcdef", 4)
	var project struct {
		Services map[string]struct {
			Environment map[string]string
			Volumes     []struct{ Type, Source, Target string }
			Configs     []struct{ Source string }
			Ports       []struct {
				HostIP    string `json:"host_ip"`
				Published string
			}
		}
		Configs map[string]struct{ File string }
	}
	if err := json.Unmarshal([]byte(run(t, []string{token}, check, "compose/compose.yaml")), &project); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for name, s := range project.Services {
		kept := false
		for _, v := range s.Volumes {
			kept = kept || v.Type == "volume" && within(v.Target, s.Environment["KAFKA_LOG_DIRS"])
			if _, err := os.Stat(v.Source); v.Type == "bind" && err != nil {
				t.Errorf("%s mounts %v", name, err)
			}
		}
		if name == "kafka" && !kept {
			t.Errorf("the log of Kafka, in %q, ends with its container", s.Environment["KAFKA_LOG_DIRS"])
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s can be reached from elsewhere: %+v", name, p)
			}
			if at := s.Environment["ASIDUO_ADVERTISE"]; len(s.Configs) > 0 && at != "http://127.0.0.1:"+p.Published {
				t.Errorf("%s says it is at %q, and is at port %s", name, at, p.Published)
			}
		}
		for _, c := range s.Configs {
			var env []string
			for key, value := range s.Environment {
				env = append(env, key+"="+value)
			}
			run(t, env, binary(t), "check", "-c", project.Configs[c.Source].File)
			if text := read(t, project.Configs[c.Source].File); !strings.Contains(text, "backfill: emit") || !strings.Contains(text, "announce_late_over: 36500d") {
				t.Error("nothing of the history that is loaded would be announced")
			}
			checked++
		}
	}
	if a, b := project.Services["asiduo-a"], project.Services["asiduo-b"]; checked != 4 || len(a.Ports) != 1 || len(b.Ports) != 1 {
		t.Errorf("%d services have a configuration, two can be asked at %v and %v", checked, a.Ports, b.Ports)
	}
	if out, err := try(t.Context(), []string{"ASIDUO_TOKEN="}, check, "compose/compose.yaml"); err == nil || !strings.Contains(out, "openssl rand -hex 32") {
		t.Errorf("without a token: %v %s", err, out)
	}
	if _, err := try(t.Context(), nil, check, write(t, filepath.Join(t.TempDir(), "bad.yaml"), "services: {a: {image: x, depends_on: [b]}}\n")); err == nil {
		t.Error("the check takes a service that is not there")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "asiduo.rules.yaml"), read(t, "alerts/asiduo.rules.yaml"))
	run(t, nil, "promtool", "check", "config", write(t, filepath.Join(dir, "prometheus.yaml"), read(t, "compose/prometheus.yaml")))
}

// within says whether a path is a directory or lies in it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// TestAlerts has every alert fire, not fire and go away on series that are made up, and holds it to its page.
func TestAlerts(t *testing.T) {
	run(t, nil, "promtool", "check", "rules", "alerts/asiduo.rules.yaml")
	run(t, nil, "promtool", "test", "rules", "alerts/asiduo.rules.test.yaml")
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "alerts/asiduo.rules.yaml")), &rules); err != nil {
		t.Fatal(err)
	}
	tests, n := read(t, "alerts/asiduo.rules.test.yaml"), 0
	for _, r := range rules.Groups[0].Rules {
		n++
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		page := "deploy/runbooks/" + r.Alert + ".md"
		if r.Annotations["runbook_url"] != "https://github.com/asiduo/asiduo/blob/main/"+page {
			t.Errorf("%s: runbook %s", r.Alert, r.Annotations["runbook_url"])
		}
		text := read(t, path(page))
		for _, part := range []string{"# " + r.Alert + "\n", "\n## Meaning\n", "\n## Check\n", "\n## Fix\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", page, part)
			}
		}
		fires := strings.Count(tests, fmt.Sprintf("alertname: %s\n        exp_alerts:", r.Alert))
		quiet := strings.Count(tests, fmt.Sprintf("alertname: %s}", r.Alert))
		if fires < 1 || quiet < 2 {
			t.Errorf("%s: tests in which it fires: %d, does not: %d", r.Alert, fires, quiet)
		}
	}
	pages, err := filepath.Glob("runbooks/Asiduo*.md")
	if err != nil || len(pages) != n || n > 10 {
		t.Errorf("%d alerts, %d pages, %v", n, len(pages), err)
	}
}
