package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// outlet is where what a command has found goes.
type outlet struct{ json, html string }

func (o *outlet) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.json, "json", "", "write the figures to this file as JSON; - for the standard output, instead of the text")
	f.StringVar(&o.html, "html", "", "write a page to this file; it needs nothing else")
}

// write writes figures, the text that tells them, and the page.
func (o *outlet) write(out io.Writer, figures any, text, page func(io.Writer) error) error {
	if o.json != "" {
		b, err := json.MarshalIndent(figures, "", "  ")
		if err != nil {
			return err
		}
		b = append(b, '\n')
		if o.json == "-" {
			_, err = out.Write(b)
		} else {
			err = os.WriteFile(o.json, b, 0o644) // #nosec G306 -- figures of all, of no customer
		}
		if err != nil {
			return fmt.Errorf("write the figures: %w", err)
		}
	}
	if o.json != "-" {
		if err := text(out); err != nil {
			return err
		}
	}
	if o.html == "" {
		return nil
	}
	var b bytes.Buffer
	err := page(&b)
	if err == nil {
		err = os.WriteFile(o.html, b.Bytes(), 0o644) // #nosec G306 -- as above
	}
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if o.json != "-" {
		fmt.Fprintf(out, "\nwritten to %s\n", o.html)
	}
	return nil
}
