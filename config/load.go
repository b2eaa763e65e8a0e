package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFileBytes is far beyond any configuration; it keeps a wrong path from being read as one.
const maxFileBytes = 1 << 20

// Load reads and checks a configuration file. getenv answers ${NAME}; nil knows no variables. The error is Faults
// unless the file cannot be read.
func Load(file string, getenv func(string) (string, bool)) (Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return Parse(file, data, getenv)
}

// Parse checks the text of a configuration file called name, and lays it over the defaults. The error is Faults and
// holds everything that is wrong.
func Parse(name string, data []byte, getenv func(string) (string, bool)) (Config, error) {
	if getenv == nil {
		getenv = func(string) (string, bool) { return "", false }
	}
	root, fault := document(data)
	if fault != nil {
		fault.File = name
		return Config{}, Faults{*fault}
	}
	c := Default()
	d := &doc{file: name, root: root, getenv: getenv, bad: map[string]bool{}, fromEnv: map[*yaml.Node]bool{}}
	d.prepare(root, configType, "")
	d.structure()
	d.assign(root, valueOf(&c), "")
	d.rules(c)
	if err := d.faults.orNil(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// document is the mapping at the root of the one YAML document in data.
func document(data []byte) (*yaml.Node, *Fault) {
	if len(data) > maxFileBytes {
		return nil, &Fault{Line: 1, Col: 1, Message: "the file is longer than 1 MiB"}
	}
	if line, col, ok := strayCharacter(data); ok {
		return nil, &Fault{Line: line, Col: col, Message: "YAML: control characters and text that is not UTF-8 are not allowed"}
	}
	var docs []yaml.Node
	if err := yaml.Load(data, &docs, yaml.WithAllDocuments()); err != nil {
		return nil, syntaxFault(data, err)
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}, nil
	}
	root := docs[0].Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" && len(docs) == 1 {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}, nil
	}
	if len(docs) > 1 {
		return nil, &Fault{Line: max(docs[1].Line, 1), Col: max(docs[1].Column, 1), Message: "a second YAML document starts here; a configuration is one document"}
	}
	if root.Kind != yaml.MappingNode {
		return nil, &Fault{Line: max(root.Line, 1), Col: max(root.Column, 1), Message: "expected a mapping of keys such as \"app: shop\", found " + kindWords(root)}
	}
	return root, nil
}

// syntaxFault puts an error of the YAML parser into our form. It never quotes the file: the text may be a secret.
func syntaxFault(data []byte, err error) *Fault {
	var le *yaml.LoadError
	if !errors.As(err, &le) || le.Mark.Line < 1 {
		return &Fault{Line: 1, Col: 1, Message: "YAML: the file cannot be understood"}
	}
	f := &Fault{Line: le.Mark.Line, Col: max(le.Mark.Column, 1), Message: "YAML: " + le.Message}
	if strings.HasPrefix(le.Message, "unknown anchor") {
		f.Message = "YAML: unknown anchor; a text that starts with * must be in quotes"
		return f
	}
	if le.ContextMsg != "" {
		f.Message += " " + le.ContextMsg
		if le.ContextMark.Line > 0 && le.ContextMark.Line != f.Line {
			f.Message += fmt.Sprintf(" that starts at line %d", le.ContextMark.Line)
		}
	}
	switch c := byteAt(data, f.Line, f.Col); {
	case strings.Contains(le.ContextMsg, "flow") && strings.Contains(lineAt(data, f.Line), "${"):
		f.Message += "; inside [ ] and { } a ${NAME} must be in quotes"
	case c == '\t':
		f.Message += "; indent with spaces, not tabs"
	case c != 0 && strings.ContainsRune("@`%&*!|>", rune(c)):
		f.Message += fmt.Sprintf("; a text that starts with %c must be in quotes", c)
	case strings.HasPrefix(le.Message, "mapping values are not allowed"):
		f.Message += `; check the indentation, and put a text that holds ": " in quotes`
	}
	return f
}

// byteAt is the byte at a position, 0 if there is none or the line is not plain ASCII up to there.
func byteAt(data []byte, line, col int) byte {
	text := lineAt(data, line)
	if col > len(text) || len(text[:col]) != utf8.RuneCountInString(text[:col]) {
		return 0
	}
	return text[col-1]
}

// lineAt is a line without its end, empty if there is none.
func lineAt(data []byte, line int) string {
	lines := strings.Split(string(data), "\n")
	if line > len(lines) {
		return ""
	}
	return strings.TrimSuffix(lines[line-1], "\r")
}

// strayCharacter is the position of the first character that YAML forbids; the parser does not tell where it is.
func strayCharacter(data []byte) (line, col int, found bool) {
	line, col = 1, 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return line, col, true
		case r == '\n':
			line, col = line+1, 0
		}
		col++
		i += n
	}
	return 0, 0, false
}
