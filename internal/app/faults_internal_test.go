package app

import (
	"testing"

	"github.com/keysentry/keysentry/rules"
)

// TestASecondFaultOfAKindIsNew: a reload may leave out what was left out before,
// and nothing more.
func TestASecondFaultOfAKindIsNew(t *testing.T) {
	t.Parallel()
	fault := func(line int) rules.Diagnostic {
		return rules.Diagnostic{File: "a.yml", Line: line, Code: rules.CodeKind, Severity: rules.Error, Message: "no kind"}
	}
	a := &App{ruleFaults: map[string]int{faultKey(fault(1)): 1}}
	if err := a.newFaults([]rules.Diagnostic{fault(7)}); err != nil {
		t.Errorf("a fault that has moved: %v", err)
	}
	if err := a.newFaults([]rules.Diagnostic{fault(1), fault(9)}); err == nil {
		t.Error("a second document with the same fault was lost")
	}
}
