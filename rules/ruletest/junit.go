package ruletest

import (
	"encoding/xml"
	"io"
	"strings"

	"github.com/keysentry/keysentry/rules"
)

// WriteJUnit writes the report in the XML form that CI systems read: one suite a
// file, and one for what the report says about the rules as a whole.
func (r *Report) WriteJUnit(w io.Writer) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure"`
	}
	type testsuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	var doc struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}
	add := func(file, name string, failures []string) {
		n := len(doc.Suites)
		if n == 0 || doc.Suites[n-1].Name != file {
			doc.Suites = append(doc.Suites, testsuite{Name: file})
			n++
		}
		s := &doc.Suites[n-1]
		c := testcase{Name: name, Class: file}
		s.Tests++
		if len(failures) > 0 {
			s.Failures++
			c.Failure = &failure{Message: failures[0], Text: strings.Join(failures, "\n")}
		}
		s.Cases = append(s.Cases, c)
	}
	for _, c := range r.Cases {
		add(c.File, c.Name, c.Failures)
	}
	for _, u := range r.Uncovered {
		add("coverage", u, []string{"needs a case in which it fires and one in which it does not"})
	}
	for _, d := range r.Diagnostics {
		if d.Severity > rules.Note {
			var fs []string
			if d.Severity == rules.Error {
				fs = []string{string(d.Code) + " " + d.Message}
			}
			add("load", d.File, fs)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	return enc.Encode(doc)
}
