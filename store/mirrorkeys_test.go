package store

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
)

// TestRowsOfKeys: only what is believed becomes a fact about a key.
func TestRowsOfKeys(t *testing.T) {
	t.Parallel()
	type row struct {
		State string
		At    time.Time
		Actor string
	}
	when := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	for name, tc := range map[string]struct {
		change journal.KeyChange
		want   []row
	}{
		"of a run":             {journal.KeyChange{State: "revoked", At: 9e9, RunID: "r"}, []row{{"revoked", when(9), ""}}},
		"adopted, age known":   {journal.KeyChange{State: journal.KeyAdopted, At: 9e9, Created: 5e9, Person: "ada", Probe: journal.ProbeAgreed}, []row{{"created", when(5), "ada"}, {"active", when(5), "ada"}}},
		"adopted, age unknown": {journal.KeyChange{State: journal.KeyAdopted, At: 9e9, Person: "ada", Probe: journal.ProbeAgreed}, []row{{"active", when(9), "ada"}}},
		"adopted, not probed":  {journal.KeyChange{State: journal.KeyAdopted, At: 9e9, Created: 5e9, Person: "ada"}, nil},
		"denied by somebody":   {journal.KeyChange{State: journal.KeyDenied, At: 9e9, Person: "ada"}, nil},
		"refused, nonetheless": {journal.KeyChange{State: journal.KeyAdopted, At: 9e9, Person: "ada", Probe: journal.ProbeRefused}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := json.Marshal(tc.change)
			if err != nil {
				t.Fatal(err)
			}
			rows := mirrorRows{}
			if err := rows.add(&journal.Record{N: 1, Kind: journal.KindKeyObserved, Body: body}); err != nil {
				t.Fatal(err)
			}
			var got []row
			for _, r := range rows["server_keys"] {
				got = append(got, row{r[2].(string), r[3].(time.Time), r[5].(string)})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
