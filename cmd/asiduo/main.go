// Command asiduo is a streaming scoring pipeline over Kafka: it says within a second which customers are becoming loyal
// and which are slipping away, also when they do nothing. It is the only package that knows every other.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // zones on machines without a database of their own

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // certificate authorities for images that have none

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// Exit codes.
const (
	exitGood   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a fault of the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	cmd := newRoot()
	err := cmd.ExecuteContext(ctx)
	stop()
	os.Exit(exitCode(os.Stderr, err))
}

// exitCode tells the error and what to exit with.
func exitCode(w *os.File, err error) int {
	if err == nil {
		return exitGood
	}
	var faults config.Faults
	_, usage := errors.AsType[usageError](err)
	if errors.As(err, &faults) {
		fmt.Fprintln(w, faults)
		return exitUsage
	}
	fmt.Fprintln(w, "asiduo:", err)
	if usage {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "asiduo",
		Short: "Which customers are becoming loyal, and which are slipping away, within a second",
		Long: `asiduo reads purchases and interactions from Kafka, keeps every customer's recency, frequency, money, life cycle and
churn risk, and tells the moment a customer changes segment or becomes a risk, also when the customer does nothing.

Exit codes: 0 good, 1 failed, 2 wrong usage or configuration.`,
		Example:       "  asiduo demo                          # real orders through the real pipeline, nothing to set up\n  asiduo init -c asiduo.yaml && asiduo run -c asiduo.yaml",
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newDemo(), newInit(), newCheck(), newRun(), newSimulate(), newReplay(), newFit(), newEvaluate(), newReport(), newRules(), newModel(),
		newSnapshot(), newState(), newReset(), newImport(), newDoctor(), newVersion())
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong arguments and flags that are missing errors of usage.
func wrapArgs(c *cobra.Command) {
	if c.HasSubCommands() {
		c.Args, c.RunE = noCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		c.DisableFlagsInUseLine = true
	}
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				err = cmd.ValidateRequiredFlags() // cobra would do it later, and its error would be none of usage
			}
			if err != nil {
				return usageError{fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// noCommand is for commands that only have others below them: what is left is none of those. Cobra by itself takes it
// for a question for help below the root.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
}

// notNegative checks flags that are numbers of something.
func notNegative(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if text := cmd.Flags().Lookup(name).Value.String(); strings.HasPrefix(text, "-") {
			return usageError{fmt.Errorf("--%s must be at least 0, found %s", name, text)}
		}
	}
	return nil
}

// loadConfig reads the configuration and proves its rule set; its faults are errors of usage.
func loadConfig(file string) (config.Config, error) {
	if file == "" {
		return config.Config{}, usageError{errors.New("no configuration: give one with -c FILE (deploy/asiduo.yaml is a documented example)")}
	}
	c, err := config.Load(file, os.LookupEnv)
	if err != nil {
		if _, ok := errors.AsType[*os.PathError](err); ok || !strings.Contains(err.Error(), file) {
			return c, usageError{err}
		}
		return c, err
	}
	if _, err := pipeline.FirstParameters(c); err != nil {
		return c, usageError{fmt.Errorf("%s: rules: %w", file, err)}
	}
	return c, nil
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration file")
}
