package simulate

import (
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
)

// TestDaylightSaving compares with the rules' dates of 2026.
func TestDaylightSaving(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		region int
		day    string
		want   bool
	}{
		{0, "2026-03-28", false}, {0, "2026-03-30", true}, {0, "2026-10-24", true}, {0, "2026-10-26", false},
		{1, "2026-03-07", false}, {1, "2026-03-09", true}, {1, "2026-10-31", true}, {1, "2026-11-02", false},
		{2, "2026-07-01", false},
	} {
		at, err := time.Parse(time.DateOnly, c.day)
		if err != nil {
			t.Fatal(err)
		}
		if got := daylightSaving(c.region, at.Add(12*time.Hour)); got != c.want {
			t.Errorf("%s on %s: daylight saving %t, want %t", regions[c.region].name, c.day, got, c.want)
		}
	}
}

// TestSeason: a week is 1 on the average, and the night is quieter than the day.
func TestSeason(t *testing.T) {
	t.Parallel()
	start := event.At(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC))
	for r := range regions {
		sum := 0.0
		for h := range 7 * 24 {
			sum += season(r, start.Add(time.Duration(h)*time.Hour))
		}
		if mean := sum / (7 * 24); mean < 0.98 || mean > 1.02 {
			t.Errorf("%s: mean %.3f", regions[r].name, mean)
		}
		local := start.Add(time.Duration(24-regions[r].ahead) * time.Hour)
		if night, noon := season(r, local.Add(4*time.Hour)), season(r, local.Add(16*time.Hour)); night > 0.6 || noon < 1.5 {
			t.Errorf("%s: %.2f at four in the morning, %.2f in the afternoon", regions[r].name, night, noon)
		}
	}
}

// TestClocks: NTP keeps a clock within a tenth of a second, and a drift ends.
func TestClocks(t *testing.T) {
	t.Parallel()
	at := event.At(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	c := clock{base: 10 * time.Millisecond, ppm: 20}
	if d := c.ahead(at.Add(1000 * time.Second)).Abs(); d > 100*time.Millisecond {
		t.Errorf("%s ahead", d)
	}
	c.from, c.until, c.jump, c.rate = at, at.Add(time.Hour), 90*time.Second, 100
	for after, want := range map[time.Duration]time.Duration{-time.Second: 0, 0: 90 * time.Second, 50 * time.Minute: 90*time.Second + 300*time.Millisecond, time.Hour: 0} {
		if got := c.ahead(at.Add(after)); (got - want).Abs() > 50*time.Millisecond {
			t.Errorf("after %s: %s ahead, want %s", after, got, want)
		}
	}
}
