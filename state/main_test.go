package state

import (
	"flag"
	"os"
	"testing"
)

// A check of a property takes microseconds here, so that many more than the usual hundred cost nothing.
func TestMain(m *testing.M) {
	if os.Getenv("RAPID_CHECKS") == "" {
		if err := flag.Set("rapid.checks", "1500"); err != nil {
			panic(err)
		}
	}
	flag.Parse() // the command line still wins
	os.Exit(m.Run())
}
