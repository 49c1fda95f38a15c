package app

import (
	"testing"

	"github.com/keysentry/keysentry/ingest/kafka"
)

// TestExclusive: who else may write is a fault when it is known who we are, or when
// it is everybody; a single name that may be ours is shown and never called nobody.
func TestExclusive(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		self string
		may  []string
		want string
	}{
		"nobody":                 {"User:keysentry", nil, DoctorGood},
		"we alone":               {"User:keysentry", []string{"User:keysentry"}, DoctorGood},
		"another":                {"User:keysentry", []string{"User:keysentry", "User:mallory"}, DoctorFail},
		"everybody":              {"User:keysentry", []string{"User:*"}, DoctorFail},
		"unnamed, nobody":        {"", nil, DoctorGood},
		"unnamed, one":           {"", []string{"User:CN=somebody"}, DoctorWarn},
		"unnamed, several":       {"", []string{"User:CN=a", "User:CN=b"}, DoctorWarn},
		"unnamed, everybody":     {"", []string{"User:*"}, DoctorFail},
		"unnamed, one and every": {"", []string{"User:*", "User:CN=a"}, DoctorFail},
	} {
		d := &doctor{}
		d.exclusive(kafka.Access{Principals: tt.may, Ruled: true}, tt.self, "topic keysentry.journal", "write to", "put false records there", "--topic keysentry.journal")
		if len(d.rows) != 1 || d.rows[0].Status != tt.want {
			t.Errorf("%s: got %+v, want %s", name, d.rows, tt.want)
		}
	}
}
