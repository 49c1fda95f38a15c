package main

import (
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
)

// goName is a word that can only be the name of a field.
var goName = regexp.MustCompile(`\b[A-Z][a-z]+(?:[A-Z][a-z]*)+\b`)

const module = "github.com/keysentry/keysentry"

// configPage writes docs/reference/config.md: types and defaults come from
// config.Default, the words from the comments of the fields.
type configPage struct {
	t        *testing.T
	b        strings.Builder
	comments map[string]map[string]string // package path -> "Type.Field" -> comment
}

func TestReferenceOfConfiguration(t *testing.T) {
	t.Parallel()
	p := &configPage{t: t, comments: map[string]map[string]string{}}
	p.b.WriteString("# Configuration\n\n<!-- generated from the source, refresh with: go test ./cmd/keysentry -run Reference -update -->\n\n" +
		"One YAML file, `--config FILE` or `$KEYSENTRY_CONFIG`. A key that is left out has its default, an unknown key is a fault, and\n" +
		"`keysentry check-config` names all faults at once. [configs/keysentry.yml](../../configs/keysentry.yml) is a file to begin from.\n\n" +
		"A **secret** is never written in the file: it is `{file: PATH}` or `{env: NAME}`. A duration is written as `250ms`, `30s`, `5m` or `24h`.\n")
	c := reflect.ValueOf(config.Default()).Elem()
	p.section("", c)
	checkPage(t, "config.md", p.b.String())
}

// section writes the table of a struct, then the sections of those inside it.
func (p *configPage) section(path string, v reflect.Value) {
	title := path
	if path == "" {
		title = "Top level"
	}
	var later []func()
	rows := p.rows(path, v, &later)
	if rows != "" {
		fmt.Fprintf(&p.b, "\n## %s\n\n%s| key | type | default | meaning |\n|---|---|---|---|\n%s", title, p.about(v.Type()), rows)
	}
	for _, f := range later {
		f()
	}
}

// about is the comment of a type, when it says more than its name.
func (p *configPage) about(t reflect.Type) string {
	if text := p.comment(t, ""); text != "" {
		return text + "\n\n"
	}
	return ""
}

func (p *configPage) rows(path string, v reflect.Value, later *[]func()) (rows string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if strings.Contains(options, "inline") {
			rows += p.rows(path, v.Field(i), later)
			continue
		}
		if key == "" || key == "-" || !f.IsExported() {
			continue
		}
		full := strings.TrimPrefix(path+"."+key, ".")
		if inner, name, ok := nested(v.Field(i), full); ok {
			*later = append(*later, func() { p.section(name, inner) })
			if f.Type.Kind() == reflect.Struct {
				continue
			}
		}
		meaning := p.comment(v.Type(), f.Name)
		if meaning == "" {
			p.t.Errorf("%s: %s.%s has no comment, so its reference has no words", full, v.Type(), f.Name)
		}
		rows += fmt.Sprintf("| `%s` | %s | %s | %s |\n", key, typeName(f.Type), defaultOf(v.Field(i)), strings.ReplaceAll(meaning, "|", "\\|"))
	}
	return rows
}

// nested returns the struct that a field holds: itself, or as an element.
func nested(v reflect.Value, path string) (reflect.Value, string, bool) {
	t := v.Type()
	switch t.Kind() {
	case reflect.Struct:
		return v, path, !isScalar(t)
	case reflect.Slice:
		if e := t.Elem(); e.Kind() == reflect.Struct && !isScalar(e) {
			return reflect.New(e).Elem(), path + "[]", true
		}
	case reflect.Map:
		if e := t.Elem(); e.Kind() == reflect.Struct && !isScalar(e) {
			return reflect.New(e).Elem(), path + ".NAME", true
		}
	}
	return reflect.Value{}, "", false
}

func isScalar(t reflect.Type) bool {
	return t == reflect.TypeFor[secret.Ref]() || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[secret.Ref]():
		return "secret"
	case t == reflect.TypeFor[netip.Prefix]():
		return "network"
	case isScalar(t):
		return "word"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true/false"
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map to " + typeName(t.Elem())
	case reflect.Struct:
		return "see below"
	}
	return "number"
}

func defaultOf(v reflect.Value) string {
	if v.IsZero() && v.Kind() != reflect.Bool {
		return ""
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return "`" + shortDuration(x) + "`"
	case encoding.TextMarshaler:
		b, _ := x.MarshalText()
		return "`" + string(b) + "`"
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.Len() == 0 || v.Type().Elem().Kind() == reflect.Struct {
			return ""
		}
		return fmt.Sprintf("`%v`", v.Interface())
	case reflect.Map:
		if v.Len() == 0 {
			return ""
		}
		var entries []string
		for iter := v.MapRange(); iter.Next(); {
			entries = append(entries, fmt.Sprintf("`%v: %v`", iter.Key(), iter.Value()))
		}
		slices.Sort(entries)
		return strings.Join(entries, ", ")
	case reflect.Struct, reflect.Pointer:
		return ""
	}
	return fmt.Sprintf("`%v`", v.Interface())
}

// shortDuration is 24h instead of 24h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// comment is the comment of a field, or of the type when field is empty, as one
// line and without the name it begins with.
func (p *configPage) comment(t reflect.Type, field string) string {
	pkg := t.PkgPath()
	if p.comments[pkg] == nil {
		p.comments[pkg] = fieldComments(p.t, pkg)
	}
	text := p.comments[pkg][strings.TrimSuffix(t.Name()+"."+field, ".")]
	name := field
	if name == "" {
		name = t.Name()
	}
	for _, lead := range []string{name + " is ", name + " are ", name + ": "} {
		if rest, ok := strings.CutPrefix(text, lead); ok {
			text = rest
			break
		}
	}
	if key, ok := strings.CutPrefix(text, name+" "); ok && field != "" {
		f, _ := t.FieldByName(name)
		yamlKey, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		text = "`" + yamlKey + "` " + key
	}
	if text == "" {
		return ""
	}
	text = goName.ReplaceAllStringFunc(text, func(word string) string {
		if f, ok := t.FieldByName(word); ok {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			return "`" + key + "`"
		}
		return word
	})
	return text
}

func fieldComments(t *testing.T, pkg string) map[string]string {
	t.Helper()
	dir := filepath.Join("..", "..", filepath.FromSlash(strings.TrimPrefix(pkg, module+"/")))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of %s in %s: %v", pkg, dir, err)
	}
	out := map[string]string{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				noteType(out, g, s.(*ast.TypeSpec))
			}
		}
	}
	return out
}

func noteType(out map[string]string, g *ast.GenDecl, spec *ast.TypeSpec) {
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	doc := spec.Doc
	if doc == nil {
		doc = g.Doc
	}
	out[spec.Name.Name] = oneLine(doc)
	above := ""
	for _, f := range st.Fields.List {
		text := oneLine(f.Doc)
		if text == "" {
			text = oneLine(f.Comment)
		}
		for _, n := range f.Names {
			// One comment may speak of this field and of those after it.
			if text == "" && regexp.MustCompile(`\b`+n.Name+`\b`).MatchString(above) {
				text = above
			}
			out[spec.Name.Name+"."+n.Name] = text
		}
		above = text
	}
}

func oneLine(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	return strings.Join(strings.Fields(c.Text()), " ")
}
