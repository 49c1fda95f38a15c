package rules

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// TestSuffix ends the names of files that hold tests of the rules in the file
// with the same stem. Load passes over them.
const TestSuffix = ".test.yml"

// Lint says everything about files that a load says, and which rules have no
// tests.
func Lint(files []File, opt Options) []Diagnostic {
	set, diags := Load(files, opt)
	if opt.Layout == LayoutJSON {
		diags = append(diags, canonicalFaults(files, set, opt)...)
	}
	tested := map[string]bool{}
	for _, f := range files {
		if stem, ok := strings.CutSuffix(f.Name, TestSuffix); ok {
			tested[stem] = true
		}
	}
	for _, f := range files {
		if isTestFile(f.Name) || tested[strings.TrimSuffix(strings.TrimSuffix(f.Name, ".yml"), ".yaml")] {
			continue
		}
		has, wants := false, false
		for _, doc := range parseDocs(f, func(Diagnostic) {}) {
			has = has || get(doc.root, "tests") != nil
			wants = wants || get(doc.root, "filter") == nil
		}
		if !has && wants {
			diags = append(diags, Diagnostic{Code: CodeNoTests, Severity: Note, File: f.Name, Line: 1, Col: 1,
				Message: "no rule of the file has tests", Hint: "add a `tests:` key, or a file with the same name that ends in " + TestSuffix})
		}
	}
	sortDiagnostics(files, diags)
	return diags
}

// canonicalFaults are the fields that canonical events lack, of the documents
// whose log source says that they are about canonical events.
func canonicalFaults(files []File, set *Set, opt Options) []Diagnostic {
	correlations := map[pos]*Correlation{}
	for _, c := range set.Correlations {
		correlations[pos{file: c.File, line: c.Line}] = c
	}
	opt.Layout = LayoutEvent
	_, all := Load(files, opt)
	var out []Diagnostic
	for _, f := range files {
		if isTestFile(f.Name) {
			continue
		}
		docs := parseDocs(f, func(Diagnostic) {})
		for _, d := range all {
			if d.Code != CodeField || d.File != f.Name {
				continue
			}
			i := len(docs) - 1
			for i > 0 && docs[i].base >= d.Line {
				i--
			}
			doc := docs[i]
			source := get(get(doc.root, "logsource"), "product")
			c := correlations[pos{file: f.Name, line: doc.base + doc.root.Line}]
			if source != nil && canonicalProduct(source.Value) || c != nil && c.canonical() {
				out = append(out, d)
			}
		}
	}
	return out
}

func canonicalProduct(product string) bool { return strings.EqualFold(product, "keysentry") }

// canonical reports whether every rule that the correlation looks at is about
// canonical events.
func (c *Correlation) canonical() bool {
	for _, in := range c.Inputs {
		if in.Rule != nil && !canonicalProduct(in.Rule.LogSource["product"]) || in.Rule == nil && !in.Correlation.canonical() {
			return false
		}
	}
	return true
}

func isTestFile(name string) bool { return strings.HasSuffix(name, TestSuffix) }

// String is file:line:column: severity code: message, the form that editors
// jump to.
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s %s: %s", d.File, d.Line, d.Col, d.Severity, d.Code, d.Message)
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	return s
}

var severityWords = [...]string{"note", "warning", "error"}

func (s Severity) String() string {
	if int(s) < len(severityWords) {
		return severityWords[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// WriteJSON writes one object per diagnostic and line.
func WriteJSON(w io.Writer, diags []Diagnostic) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, d := range diags {
		if err := enc.Encode(d); err != nil {
			return err
		}
	}
	return nil
}

// SARIF 2.1.0, as far as code scanning reads it.
type (
	sarifText struct {
		Text string `json:"text"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifPlace struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPlace `json:"physicalLocation"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
)

// WriteSARIF writes diagnostics in the format of code scanning tools.
func WriteSARIF(w io.Writer, diags []Diagnostic) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver.Name = "keysentry rules lint"
	for _, c := range CodeTable() {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{string(c.Code), sarifText{c.Meaning}})
	}
	for _, d := range diags {
		place := sarifPlace{Artifact: sarifArtifact{d.File}}
		if d.Line > 0 {
			place.Region = &sarifRegion{d.Line, max(d.Col, 1)}
		}
		text := d.Message
		if d.Hint != "" {
			text += " (" + d.Hint + ")"
		}
		run.Results = append(run.Results, sarifResult{string(d.Code), d.Severity.String(), sarifText{text}, []sarifLocation{{place}}})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}})
}
