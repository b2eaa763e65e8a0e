package oracle

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

func caseDirs(t *testing.T) []string {
	t.Helper()
	root := cmp.Or(os.Getenv("ASIDUO_CASES"), filepath.Join("..", "..", "cmd", "asiduo", "testdata", "conformance", "cases"))
	found, err := filepath.Glob(filepath.Join(root, "*", "case.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases in %s (%v)", root, err)
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

// TestCases also holds the partitioner against the records of the cases.
func TestCases(t *testing.T) {
	for _, dir := range caseDirs(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, err := ReadCase(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.Input {
				if p := partitionOf(r.Key, c.Config.Partitions); p != r.Partition {
					t.Fatalf("%q is on partition %d, murmur2 gives %d", r.Key, r.Partition, p)
				}
			}
			got, err := Play(c.Config, c.Input)
			if err != nil {
				t.Fatal(err)
			}
			for i, fault := range Diff(c.Want, got) {
				if i == 10 {
					break
				}
				t.Error(fault)
			}
		})
	}
}
