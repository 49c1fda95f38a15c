package offset

import (
	"slices"
	"strings"
)

// Snapshot is an Estimator as it stood at a position of its partition: records
// below Position are in it. It is written as JSON.
type Snapshot struct {
	Position int64       `json:"position"`
	Evicted  uint64      `json:"evicted,omitempty"`
	Hosts    []hostState `json:"hosts"` // the longest unheard first
}

// hostState is what a snapshot keeps of a host.
type hostState struct {
	Name    string  `json:"host"`
	Records uint64  `json:"n"`
	Minute  int64   `json:"minute"` // the open minute, since the epoch
	Points  []point `json:"points,omitempty"`

	AnchorAt     int64 `json:"anchor_at,omitempty"`
	AnchorOffset int64 `json:"anchor_offset,omitempty"`
	AnchorError  int64 `json:"anchor_error,omitempty"`

	// The open minute. Samples stand in the order of arrival.
	Open    []int64  `json:"open,omitempty"`
	Stride  int      `json:"stride,omitempty"`
	Skipped int      `json:"skipped,omitempty"`
	Current Estimate `json:"current"`
}

// Snapshot copies the state; position is the offset of the next record.
func (e *Estimator) Snapshot(position int64) Snapshot {
	s := Snapshot{Position: position, Evicted: e.evicted, Hosts: make([]hostState, 0, len(e.hosts))}
	for el := e.recent.Back(); el != nil; el = el.Prev() {
		h := el.Value.(*host)
		st := h.hostState
		st.Points = slices.Clone(st.Points)
		st.Open = slices.Clone(h.samples)
		st.Stride, st.Skipped = h.stride, h.skipped
		s.Hosts = append(s.Hosts, st)
	}
	return s
}

// Restore returns an Estimator that goes on from s.
func Restore(s Snapshot, maxHosts int) *Estimator {
	e := New(maxHosts)
	e.evicted = s.Evicted
	for _, st := range s.Hosts {
		h := e.host(strings.Clone(st.Name))
		h.samples, h.stride, h.skipped = slices.Clone(st.Open), max(1, st.Stride), st.Skipped
		st.Points = slices.Clone(st.Points)
		st.Open, st.Stride, st.Skipped = nil, 0, 0
		h.hostState = st
	}
	return e
}
