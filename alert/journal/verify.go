package journal

import (
	"errors"
	"fmt"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Raw is one record of the topic as it lies there, stray or not.
type Raw struct {
	Offset int64
	Time   event.Instant // the topic's time, not part of the record
	Value  []byte
}

// Fault is a kind of damage to the history.
type Fault string

// The faults.
const (
	FaultUnreadable Fault = "unreadable" // not a record
	FaultChanged    Fault = "changed"    // the content does not fit its hash
	FaultForged     Fault = "forged"     // written without the key
	FaultRemoved    Fault = "removed"    // records are missing before this one
	FaultReordered  Fault = "reordered"  // the record before this one comes later
	FaultCut        Fault = "cut"        // the known head is not reached
	FaultRewritten  Fault = "rewritten"  // the known head is another record
)

// Problem is one fault at one place. N and Offset are 0 and -1 where the fault
// has no record.
type Problem struct {
	Fault  Fault  `json:"fault"`
	N      int64  `json:"n"`
	Offset int64  `json:"offset"`
	Detail string `json:"detail,omitempty"`
}

// Report is the result of Verify.
type Report struct {
	Records int `json:"records"` // all, strays included
	// Head and Accepted are what a reader of the journal arrives at.
	Head     Head `json:"head"`
	Accepted int  `json:"accepted"`
	// Duplicates are second copies of accepted records (a retried request);
	// Superseded are good records that another writer was faster than. Both are
	// harmless.
	Duplicates int       `json:"duplicates"`
	Superseded int       `json:"superseded"`
	Problems   []Problem `json:"problems"`
}

// Good reports whether the history is whole.
func (r *Report) Good() bool { return len(r.Problems) == 0 }

// Verify checks a whole journal, in the order of its offsets. known is a head
// that was written down elsewhere (the daily digest, ClickHouse); the zero Head
// is none. After damage it goes on, to name all of it, while a reader of the
// journal accepts nothing that does not follow.
func Verify(records []Raw, key secret.Value, known Head) *Report {
	v := &verifier{
		report: &Report{Records: len(records)},
		byHash: map[string]int{}, isHead: map[string]bool{}, followed: map[string]bool{},
		accepted: map[int64]string{}, broken: map[int64]bool{},
	}
	v.decode(records, key)
	chain := NewChain(key)
	for i := range v.records {
		r := &v.records[i]
		if r.fault != "" {
			v.problem(r, r.fault, r.detail)
			v.broken[r.N] = true
			continue
		}
		if chain.Accept(r.Record) == nil {
			v.report.Accepted++
		}
		v.place(i)
	}
	v.report.Head = chain.Head()
	v.known(known, chain.Head())
	return v.report
}

type checked struct {
	Record
	fault  Fault
	detail string
}

// verifier walks the records. at is the head it follows: the chain's until the
// first damage, afterwards that of the part behind it.
type verifier struct {
	report   *Report
	records  []checked
	byHash   map[string]int   // good records by hash: the first of each
	isHead   map[string]bool  // hashes that the walk followed
	followed map[string]bool  // hashes that a followed record names as the one before
	accepted map[int64]string // hash by number, of what the walk followed
	broken   map[int64]bool   // numbers whose record is changed or forged
	at       Head
}

// decode reads the records and checks each on its own.
func (v *verifier) decode(records []Raw, key secret.Value) {
	v.records = make([]checked, len(records))
	for i, raw := range records {
		r, err := Decode(raw.Value)
		if err == nil {
			err = r.verify(key)
		}
		r.Offset = raw.Offset
		c := checked{Record: r}
		if err != nil {
			c.fault, c.detail = faultOf(err)
		} else if _, ok := v.byHash[r.Hash]; !ok {
			v.byHash[r.Hash] = i
		}
		v.records[i] = c
	}
}

func faultOf(err error) (Fault, string) {
	var s *StrayError
	if !errors.As(err, &s) {
		return FaultUnreadable, err.Error()
	}
	switch s.Reason {
	case StrayBadHash:
		return FaultChanged, s.Detail
	case StrayBadMAC:
		return FaultForged, s.Detail
	}
	return FaultUnreadable, s.Detail
}

// place decides what the good record i is: the next, a harmless stray, or the
// first behind damage.
func (v *verifier) place(i int) {
	r := &v.records[i]
	follows := r.Prev == v.at.Hash && r.N == v.at.N+1
	switch {
	case follows:
	case v.isHead[r.Hash]:
		v.report.Duplicates++
		return
	case v.followed[r.Hash]:
		// The record behind it came first and was reported.
		v.isHead[r.Hash], v.accepted[r.N] = true, r.Hash
		return
	case r.N <= v.at.N && v.isHead[r.Prev] || r.N == 1 && v.at.N > 0:
		v.report.Superseded++
		return
	default:
		v.behindDamage(i)
	}
	v.at = Head{N: r.N, Hash: r.Hash}
	v.isHead[r.Hash] = true
	v.followed[r.Prev] = true
	v.accepted[r.N] = r.Hash
}

// behindDamage reports why i does not follow.
func (v *verifier) behindDamage(i int) {
	r := &v.records[i]
	if j, ok := v.byHash[r.Prev]; ok && j > i {
		v.problem(r, FaultReordered, fmt.Sprintf("record %d lies behind it, at offset %d", r.N-1, v.records[j].Offset))
		return
	}
	var from, to int64 = v.at.N + 1, r.N - 1
	missing := 0
	for n := from; n <= to && n-from < maxNamed; n++ {
		if !v.broken[n] {
			missing++
		}
	}
	switch {
	case missing > 0:
		v.problem(r, FaultRemoved, fmt.Sprintf("records %d to %d", from, to))
	case from <= to:
		// What lies between was reported as changed or forged.
	default:
		v.problem(r, FaultReordered, fmt.Sprintf("number %d after %d", r.N, v.at.N))
	}
}

// maxNamed bounds the work on a forged number.
const maxNamed = 1 << 20

// known compares with a head that was written down elsewhere.
func (v *verifier) known(known, head Head) {
	if known == (Head{}) {
		return
	}
	hash, ok := v.accepted[known.N]
	switch {
	case ok && hash == known.Hash:
	case ok:
		v.report.Problems = append(v.report.Problems, Problem{FaultRewritten, known.N, -1,
			fmt.Sprintf("record %d has hash %s, the head written down had %s", known.N, hash, known.Hash)})
	default:
		v.report.Problems = append(v.report.Problems, Problem{FaultCut, known.N, -1,
			fmt.Sprintf("the journal ends at %d, the head written down was %d", head.N, known.N)})
	}
}

func (v *verifier) problem(r *checked, f Fault, detail string) {
	v.report.Problems = append(v.report.Problems, Problem{f, r.N, r.Offset, detail})
}
