package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAComponentBuiltAnewReplacesItsMetrics(t *testing.T) {
	t.Parallel()
	r := New()
	r.Counter("part", "things_total", "Things.").Add(5)
	second := r.Counter("part", "things_total", "Things.")
	second.Add(2)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "keysentry_part_things_total 2\n") {
		t.Errorf("the second counter is not the one that is served:\n%s", w.Body)
	}
}

func TestOrNewGivesARegistryThatNobodyReads(t *testing.T) {
	t.Parallel()
	if r := New(); OrNew(r) != r {
		t.Error("OrNew replaced a registry")
	}
	OrNew(nil).Counters("part", "things_total", "Things.", "kind").WithLabelValues("a").Inc()
}
