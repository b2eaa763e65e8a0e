package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/asiduo/asiduo/config"
	"github.com/asiduo/asiduo/pipeline"
)

// aclFlags are those of "asiduo init --acls".
type aclFlags struct {
	print, asJSON bool
	principal     string
}

func (f *aclFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.print, "acls", false, "print the access rights that are needed, as commands, and do nothing")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "with --acls: print them as JSON")
	cmd.Flags().StringVar(&f.principal, "principal", "", "with --acls: whom to grant them (default User:<kafka.sasl.username>)")
}

func (f *aclFlags) check(c config.Config) error {
	if !f.print && (f.asJSON || f.principal != "") {
		return usageError{errors.New("--json and --principal are for --acls")}
	}
	if f.print && f.principal == "" {
		f.principal = "User:" + c.Kafka.SASL.Username
	}
	if kind, name, _ := strings.Cut(f.principal, ":"); f.print && (kind == "" || name == "") {
		return usageError{errors.New("whom to grant the rights? kafka.sasl.username does not tell: give --principal User:NAME")}
	}
	return nil
}

// write prints the rights for a shell, a line for each resource, or as a list.
func (f *aclFlags) write(out io.Writer, c config.Config) error {
	rights := pipeline.Rights(c)
	if f.asJSON {
		type acl struct {
			pipeline.Right
			Principal string `json:"principal"`
		}
		list := make([]acl, len(rights))
		for i, r := range rights {
			list[i] = acl{r, f.principal}
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	var lines []string
	var was pipeline.Right
	for _, r := range rights {
		of := r
		if of.Operation = ""; of.Command != was.Command {
			lines = append(lines, "# asiduo "+r.Command)
		}
		if of != was {
			lines = append(lines, fmt.Sprintf("kafka-acls.sh --bootstrap-server %s --add --allow-principal %s --resource-pattern-type %s --%s %s",
				strings.Join(c.Kafka.Brokers, ","), quoted(f.principal), r.Pattern, r.Resource, r.Name))
		}
		lines[len(lines)-1] += " --operation " + r.Operation
		was = of
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// quoted is a word for a shell: the names of certificates hold blanks and commas.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
