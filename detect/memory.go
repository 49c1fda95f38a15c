package detect

import (
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/rules"
)

// Rules is the set that runs.
func (e *Engine) Rules() *rules.Set {
	e.swap.RLock()
	defer e.swap.RUnlock()
	return e.set
}

// Forgetful names the rules that fire nothing yet, because what they have to know
// from before was not loaded.
func (e *Engine) Forgetful() []*rules.Correlation {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.Forgetful()
}

// LoadMemory gives a rule back what was kept of it, unless its logic is another
// one by now; with last it has all and begins to fire.
func (e *Engine) LoadMemory(ruleID, logic string, pieces []memory.Piece, last bool) error {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.LoadMemory(ruleID, logic, pieces, last)
}

// Relearn gives a rule of type rate_anomaly seasons that were read off the stored
// events; see correlate.Correlator.
func (e *Engine) Relearn(ruleID, logic string, pieces []memory.Piece) (added []memory.Piece, adopted int, err error) {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.Relearn(ruleID, logic, pieces)
}

// TakeMemory returns what changed since the last call, at most n pieces. It may be
// kept once the positions of all events that were observed before this call are.
func (e *Engine) TakeMemory(n int) []memory.Piece {
	e.correlating.Lock()
	defer e.correlating.Unlock()
	return e.windows.TakeMemory(n)
}
