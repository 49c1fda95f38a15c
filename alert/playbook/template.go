package playbook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keysentry/keysentry/detect/finding"
)

// A template is text with ${inputs.NAME}, ${run.NAME} or ${steps.ID.OUTPUT}.
// There is no other syntax, and a value is never read as a template again.

// runRefs are the names after "run.".
func runRefs() []string { return []string{"id", "network", "incident_id", "playbook"} }

func incidentKinds() []finding.Kind { return finding.Kinds() }

var errTemplate = errors.New("a ${ without its }")

// references lists what a template refers to.
func references(text string) ([]string, error) {
	var refs []string
	for {
		_, rest, found := strings.Cut(text, "${")
		if !found {
			return refs, nil
		}
		ref, after, closed := strings.Cut(rest, "}")
		if !closed {
			return refs, errTemplate
		}
		refs, text = append(refs, ref), after
	}
}

// expand fills a template in. A reference that lookup does not know stays as it
// is when keep is set, and is an error otherwise.
func expand(text string, keep bool, lookup func(ref string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		ref, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errTemplate
		}
		v, ok := lookup(ref)
		switch {
		case ok:
			out.WriteString(v)
		case keep:
			out.WriteString("${" + ref + "}")
		default:
			return "", fmt.Errorf("${%s} has no value", ref)
		}
		text = after
	}
}
