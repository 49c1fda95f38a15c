package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Faults is everything wrong with one configuration, each fault with its place.
type Faults struct {
	Path   string
	Faults []string
}

func (f *Faults) Error() string {
	if len(f.Faults) == 1 {
		return f.Path + ": " + f.Faults[0]
	}
	return fmt.Sprintf("%s: %d faults:\n  %s", f.Path, len(f.Faults), strings.Join(f.Faults, "\n  "))
}

// Load reads and validates the file at path. Every fault is reported at once,
// by its YAML path (or its line, where the YAML itself is at fault). Keys that
// are missing keep their defaults; unknown keys are faults.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, text)
}

// Parse is Load for text that was read already; path is used in messages only.
func Parse(path string, text []byte) (*Config, error) {
	c := Default()
	var faults []string
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		faults = append(faults, yamlFaults(err, text)...)
	} else if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		faults = append(faults, "there is a second YAML document; a configuration is one")
	}
	// Only well-formed input is validated: a key that did not decode would
	// be reported a second time as missing.
	if len(faults) == 0 {
		for _, err := range c.Validate() {
			faults = append(faults, err.Error())
		}
	}
	if len(faults) > 0 {
		return nil, &Faults{Path: path, Faults: faults}
	}
	return c, nil
}

var unknownField = regexp.MustCompile(`^(line \d+): field (\S+) not found in type \S+$`)

// wrongType is the library's message about a value of another type. It repeats
// the value, which may be a secret in the wrong place.
var wrongType = regexp.MustCompile(`(?s)^(line \d+): cannot unmarshal !!(\w+)(?: .*)? into (\S+)$`)

// typeWords says in the words of a configuration what a Go type wants.
func typeWords(t string) string {
	switch {
	case t == "secret.Ref":
		return "{file: PATH} or {env: NAME}, for a secret is not written here"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case t == "time.Duration":
		return "a duration such as 30s or 5m"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"), strings.HasPrefix(t, "float"):
		return "a number"
	case t == "bool":
		return "true or false"
	case t == "string":
		return "text"
	}
	return "a mapping of keys"
}

// yamlFaults splits what the YAML library reports into one line per fault, in
// the words of the configuration rather than of the Go types.
func yamlFaults(err error, text []byte) []string {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		var doc yaml.Node
		if yaml.Unmarshal(text, &doc) == nil {
			if faults := textFaults(&doc, reflect.TypeFor[Config](), ""); len(faults) > 0 {
				return faults
			}
		}
		return []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	out := make([]string, len(typed.Errors))
	for i, e := range typed.Errors {
		if m := unknownField.FindStringSubmatch(e); m != nil {
			e = fmt.Sprintf("%s: unknown key %q; docs/reference/config.md lists the keys", m[1], m[2])
		}
		if m := wrongType.FindStringSubmatch(e); m != nil {
			e = fmt.Sprintf("%s: want %s, got %s", m[1], typeWords(m[3]), m[2])
		}
		out[i] = e
	}
	return out
}

// Print writes c as YAML. Secrets are references in it, never values.
func (c *Config) Print(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	return enc.Close()
}

// decodeStrict decodes node and refuses unknown keys: the library's own check is
// lost inside an UnmarshalYAML method.
func decodeStrict(node *yaml.Node, into any) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err = dec.Decode(into)
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return err
	}
	for i, e := range typed.Errors {
		// Lines count from the node here.
		if m := nodeLine.FindStringSubmatch(e); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				typed.Errors[i] = fmt.Sprintf("line %d: %s", n+node.Line-1, m[2])
			}
		}
	}
	return typed
}

var nodeLine = regexp.MustCompile(`^line (\d+): (.*)$`)
