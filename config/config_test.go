package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write golden files")

const exampleFile = "../deploy/asiduo.yaml"

// shop is the smallest configuration there is.
func shop() Config {
	c := Default()
	c.App, c.Currency = "shop", "EUR"
	return c
}

func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	}
}

// same compares configurations with their secrets, which printing would hide.
func same(t *testing.T, got, want Config) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("configurations differ:\n%s", cmp.Diff(want, got, cmp.AllowUnexported(Instant{})))
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	got, err := Load(exampleFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, shop())
}

func TestExampleExplainsEveryKey(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("# yaml-language-server: $schema=asiduo.schema.json\n")) {
		t.Error("the first line does not name the schema")
	}
	root, fault := document(data)
	if fault != nil {
		t.Fatal(fault)
	}
	d := &doc{root: root}
	allKeys(configType, "", func(path string) {
		key := d.key(path)
		if key == nil {
			t.Errorf("%s is not in the example", path)
			return
		}
		if key.HeadComment == "" && key.LineComment == "" {
			t.Errorf("%s has no comment in the example", path)
		}
	})
}

func TestMinimalFile(t *testing.T) {
	got, err := Parse("c.yaml", []byte("app: shop\ncurrency: EUR\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, shop())
}

func TestSchemaFile(t *testing.T) {
	const file = "../deploy/asiduo.schema.json"
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, file, want)
	for _, text := range []string{`"$schema": "https://json-schema.org/draft/2020-12/schema"`, `"default": "25ms"`, `"default": [`} {
		if !bytes.Contains(want, []byte(text)) {
			t.Errorf("the schema has no %s", text)
		}
	}
	allKeys(configType, "", func(path string) {
		s := reflected()
		for _, step := range steps(path) {
			s, _ = s.Properties.Get(step)
		}
		if s.Description == "" {
			t.Errorf("%s has no description", path)
		}
	})
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (go test ./config -update writes it):\n%s", file, diff)
	}
}

// TestBad holds every fault that a file can have against the exact messages beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	getenv := environment(map[string]string{"WORD": "lots", "SECRET": "hunter2", "LIST": "a:1\nshards: 7", "BYTES": "\xff"})
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(name+".yaml", data, getenv)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("no faults but %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(err.Error()+"\n"))
		})
	}
}

func TestOddBytes(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"control character": {"app: shop\ncurrency: E\x01R\n", "c.yaml:2:12: YAML: control characters and text that is not UTF-8 are not allowed"},
		"not UTF-8":         {"app: \xff\n", "c.yaml:1:6: YAML: control characters and text that is not UTF-8 are not allowed"},
		"too long":          {strings.Repeat("#\n", maxFileBytes), "c.yaml:1:1: the file is longer than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("c.yaml", []byte(tt.text), nil); err == nil || err.Error() != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "absent.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	text := `
app: ${APP}
shards: ${SHARDS}
currency: ${CURRENCY:-EUR}
minor_digits: ${EMPTY:-2}
kafka:
  brokers: ["${HOST}:${PORT:-9092}"]
  tls:
    enabled: ${OFF}
state: {dir: '$${APP}/$$/$x/$'}
churn:
  hysteresis: ${HYSTERESIS}
outputs:
  profiles: ${OFF}
log:
  level: ${EMPTY:-warn}
`
	vars := map[string]string{"APP": "2026", "SHARDS": "7", "HOST": "localhost", "HYSTERESIS": "0.030", "OFF": "false", "EMPTY": ""}
	got, err := Parse("c.yaml", []byte(text), environment(vars))
	if err != nil {
		t.Fatal(err)
	}
	want := shop()
	want.App, want.Shards, want.MinorDigits, want.Log.Level = "2026", 7, 2, "warn"
	want.Kafka.Brokers = []string{"localhost:9092"}
	want.State.Dir, want.Churn.Hysteresis, want.Outputs.Profiles = "${APP}/$/$x/$", "0.030", false
	same(t, got, want)
}

func TestEnvironmentCannotAddKeys(t *testing.T) {
	text := "app: shop\ncurrency: EUR\nstate:\n  dir: ${DIR}\n"
	dir := "x\nshards: 9\n# ${APP} *a &b"
	got, err := Parse("c.yaml", []byte(text), environment(map[string]string{"DIR": dir}))
	if err != nil {
		t.Fatal(err)
	}
	want := shop()
	want.State.Dir = dir
	same(t, got, want)
}

func secretive() Config {
	c := shop()
	c.Kafka.SASL = SASL{Mechanism: "SCRAM-SHA-512", Username: "ana", Password: "hunter2"}
	return c
}

func TestSecretsAreHidden(t *testing.T) {
	c := secretive()
	var printed, logged bytes.Buffer
	if err := Print(&printed, c); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&logged, nil)).Info("start", "config", c, "password", c.Kafka.SASL.Password)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("start", "config", c, "password", c.Kafka.SASL.Password)
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	dumped, err := yaml.Dump(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Kafka.Brokers = nil
	texts := map[string]string{"Print": printed.String(), "JSON": string(encoded), "YAML": string(dumped), "slog": logged.String(), "Validate": c.Validate().Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts[verb] = fmt.Sprintf(verb, c) + fmt.Sprintf(verb, &c) + fmt.Sprintf(verb, c.Kafka.SASL.Password)
	}
	for name, text := range texts {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s shows the secret: %s", name, text)
		}
		if !strings.Contains(text, "***") && name != "Validate" {
			t.Errorf("%s does not show that there is a secret", name)
		}
	}
	if string(c.Kafka.SASL.Password) != "hunter2" {
		t.Error("the secret is lost")
	}
}

func TestPrintLoadsBack(t *testing.T) {
	odd := secretive()
	odd.Kafka.Brokers = []string{"[::1]:9092", "kafka-1.internal:9093"}
	odd.State.Dir, odd.Archive.Dir = " ${HOME}/$$ # 'x': \"é\"\n\ttrue", "12"
	odd.Kafka.SASL.Username = "null"
	odd.Churn.Params.R = 1.25e-4
	odd.Churn.Params.Alpha = 1e7
	odd.Archive.Every = 0
	odd.State.HotCache = 1000
	if err := odd.Time.LiveFrom.UnmarshalText([]byte("2026-03-01T00:00:00.500+02:00")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Config{"defaults": shop(), "odd": odd} {
		t.Run(name, func(t *testing.T) {
			var printed bytes.Buffer
			if err := Print(&printed, want); err != nil {
				t.Fatal(err)
			}
			got, err := Parse("printed.yaml", printed.Bytes(), nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, printed.String())
			}
			if want.Kafka.SASL.Password != "" {
				want.Kafka.SASL.Password = hidden
			}
			same(t, got, want)
			if name == "defaults" {
				golden(t, "testdata/print.yaml", printed.Bytes())
			}
		})
	}
}
