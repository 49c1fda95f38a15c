package playbook

import (
	"slices"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
)

// Playbook is one loaded definition.
type Playbook struct {
	Name    string           `yaml:"name"`
	Title   string           `yaml:"title"` // one sentence for the plan's summary; may hold templates
	Trigger Trigger          `yaml:"trigger"`
	Inputs  map[string]Input `yaml:"inputs"`
	Steps   []StepDef        `yaml:"steps"`
	// Compensations run only when a run is backed out, through the steps that
	// name them.
	Compensations []StepDef `yaml:"compensations"`
}

// Trigger says for which incidents the playbook is proposed.
type Trigger struct {
	Kinds       []finding.Kind   `yaml:"kinds"`
	MinSeverity finding.Severity `yaml:"min_severity"`
}

// Matches reports whether an incident of this kind and severity triggers.
func (t Trigger) Matches(kind finding.Kind, severity finding.Severity) bool {
	return slices.Contains(t.Kinds, kind) && severity >= t.MinSeverity
}

// Input is one input of a playbook.
type Input struct {
	Type     InputType `yaml:"type"`
	Required bool      `yaml:"required"`
	Default  string    `yaml:"default"`
	Values   []string  `yaml:"values"` // of an enum
	Max      string    `yaml:"max"`    // of a duration
	About    string    `yaml:"about"`
}

// InputType is the type of an input's value.
type InputType string

// The types of inputs.
const (
	TypeString   InputType = "string"
	TypeEnum     InputType = "enum"
	TypeDuration InputType = "duration"
	TypeInt      InputType = "int"
	TypeKeyID    InputType = "key_id" // the fingerprint of a key
)

// StepDef is one step of a definition.
type StepDef struct {
	ID   string `yaml:"id"`
	Type string `yaml:"type"`
	// When runs the step only if an input of type enum has (==) or lacks (!=) a
	// value: "inputs.mode == routine".
	When         string            `yaml:"when"`
	Inputs       map[string]string `yaml:"inputs"`
	Precondition []string          `yaml:"precondition"`
	Verification []string          `yaml:"verification"`
	Compensation []string          `yaml:"compensation"`
	Timeout      time.Duration     `yaml:"timeout"`
	Retry        Retry             `yaml:"retry"`
	Reversible   bool              `yaml:"reversible"`
}

// Retry says how often a step is tried, and how far apart.
type Retry struct {
	Attempts int           `yaml:"attempts"`
	Delay    time.Duration `yaml:"delay"`
}

// Library is the loaded playbooks.
type Library struct{ byName map[string]*Playbook }

// Get returns a playbook by name.
func (l *Library) Get(name string) (*Playbook, bool) {
	p, ok := l.byName[name]
	return p, ok
}

// List returns the playbooks by name.
func (l *Library) List() []*Playbook {
	out := make([]*Playbook, 0, len(l.byName))
	for _, p := range l.byName {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Playbook) int { return compare(a.Name, b.Name) })
	return out
}

// Propose returns the playbooks that an incident triggers, by name.
func (l *Library) Propose(kind finding.Kind, severity finding.Severity) []*Playbook {
	var out []*Playbook
	for _, p := range l.List() {
		if p.Trigger.Matches(kind, severity) {
			out = append(out, p)
		}
	}
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
