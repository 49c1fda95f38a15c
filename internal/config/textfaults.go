package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// textFaults finds the words that a type refuses (an origin that does not exist,
// say). The YAML library ends at the first one, without telling where it is.
func textFaults(n *yaml.Node, t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return textFaults(n.Content[0], t, path)
	case yaml.AliasNode:
		return textFaults(n.Alias, t, path)
	case yaml.ScalarNode:
		u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler)
		if !ok || n.Tag == "!!null" {
			return nil
		}
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			return []string{fmt.Sprintf("%s: %v (line %d)", path, err, n.Line)}
		}
	case yaml.SequenceNode:
		return sequenceFaults(n, t, path)
	case yaml.MappingNode:
		return mappingFaults(n, t, path)
	}
	return nil
}

func sequenceFaults(n *yaml.Node, t reflect.Type, path string) (faults []string) {
	if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
		return nil
	}
	for i, c := range n.Content {
		faults = append(faults, textFaults(c, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
	}
	return faults
}

func mappingFaults(n *yaml.Node, t reflect.Type, path string) (faults []string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		var elem reflect.Type
		switch t.Kind() {
		case reflect.Map:
			elem = t.Elem()
		case reflect.Struct:
			elem = yamlField(t, key)
		}
		if elem != nil {
			faults = append(faults, textFaults(n.Content[i+1], elem, strings.TrimPrefix(path+"."+key, "."))...)
		}
	}
	return faults
}

// yamlField is the type of the field of t that a key names, nil without one.
func yamlField(t reflect.Type, key string) reflect.Type {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == key {
			return f.Type
		}
		if options == "inline" {
			if inner := yamlField(f.Type, key); inner != nil {
				return inner
			}
		}
	}
	return nil
}
