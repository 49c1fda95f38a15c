package anomaly

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// labelled is one series of the Numenta Anomaly Benchmark.
type labelled struct {
	name    string // category/file.csv
	times   []time.Time
	values  []float64
	windows [][2]int // first and last row
}

func (l *labelled) category() string { return filepath.Dir(l.name) }

// corpus reads the series that are there, or skips the test.
func corpus(tb testing.TB) []*labelled {
	tb.Helper()
	root := os.Getenv("KEYSENTRY_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	root = filepath.Join(root, "data", "nab")
	text, err := os.ReadFile(filepath.Join(root, "windows.json"))
	if err != nil {
		tb.Skipf("SKIP: the series of the benchmark are not here (set KEYSENTRY_SHARED): %v", err)
	}
	var windows map[string][][2]string
	if err := json.Unmarshal(text, &windows); err != nil {
		tb.Fatal(err)
	}
	var out []*labelled
	for name, spans := range windows {
		l := &labelled{name: name}
		l.read(tb, filepath.Join(root, name))
		for _, s := range spans {
			l.windows = append(l.windows, [2]int{l.row(tb, s[0]), l.row(tb, s[1])})
		}
		slices.SortFunc(l.windows, func(a, b [2]int) int { return a[0] - b[0] })
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *labelled) int { return strings.Compare(a.name, b.name) })
	return out
}

const nabTime = "2006-01-02 15:04:05"

func (l *labelled) read(tb testing.TB, path string) {
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Scan() // the header
	for in.Scan() {
		ts, val, _ := strings.Cut(in.Text(), ",")
		at, err := time.Parse(nabTime, ts)
		if err != nil {
			tb.Fatal(path, err)
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(val), 64)
		if err != nil {
			tb.Fatal(path, err)
		}
		l.times, l.values = append(l.times, at), append(l.values, v)
	}
}

// row is the first row of that time.
func (l *labelled) row(tb testing.TB, text string) int {
	at, err := time.Parse(nabTime, strings.TrimSuffix(text, ".000000"))
	if err != nil {
		tb.Fatal(l.name, err)
	}
	i := slices.IndexFunc(l.times, at.Equal)
	if i < 0 {
		tb.Fatalf("%s: no row has the time %s", l.name, text)
	}
	return i
}

// profile is what a hit, a false alarm and a miss count.
type profile struct {
	name       string
	tp, fp, fn float64
}

var profiles = []profile{{"standard", 1, 0.11, 1}, {"low FP", 1, 0.22, 1}, {"low FN", 1, 0.11, 2}}

// sigmoid is the weight of a place relative to a window that ends at 0.
func sigmoid(y float64) float64 {
	if y > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*y)) - 1
}

// weighed is one row that can be flagged.
type weighed struct {
	score, weight float64
	window        int // -1 outside
}

// weigh are the rows of a series that count; windows are numbered from base.
func (l *labelled) weigh(scores []float64, p profile, base int) []weighed {
	n := len(l.values)
	out := make([]weighed, 0, n)
	next, last := 0, -1 // the window at or after the row, the one before it
	for i := min(n*15/100, 750); i < n; i++ {
		for next < len(l.windows) && l.windows[next][1] < i {
			last, next = next, next+1
		}
		w := weighed{score: scores[i], window: -1, weight: -p.fp}
		switch {
		case next < len(l.windows) && l.windows[next][0] <= i:
			first, end := l.windows[next][0], l.windows[next][1]
			w.window = base + next
			w.weight = p.tp * sigmoid(-float64(end-i+1)/float64(end-first+1)) / sigmoid(-1)
		case last >= 0:
			w.weight = p.fp * sigmoid(float64(i-l.windows[last][1])/float64(l.windows[last][1]-l.windows[last][0]))
		}
		out = append(out, w)
	}
	return out
}

// mark is the result at the best threshold: 0 for silence, 100 for perfection.
type mark struct {
	result, threshold float64
	hit, windows      int // windows
	outside           int // rows flagged outside of windows
}

// assess finds the best threshold for all series together. at, when it is not NaN,
// is the threshold to use instead.
func assess(series []*labelled, scores [][]float64, p profile, at float64) mark {
	var rows []weighed
	n := 0
	for i, l := range series {
		rows = append(rows, l.weigh(scores[i], p, n)...)
		n += len(l.windows)
	}
	slices.SortFunc(rows, func(a, b weighed) int { // descending
		if a.score > b.score {
			return -1
		} else if a.score < b.score {
			return 1
		}
		return 0
	})
	best := make([]float64, n)
	silence := -float64(n) * p.fn
	sum := silence
	top := mark{result: silence, threshold: math.Inf(1), windows: n}
	hit, wrong := 0, 0
	seen := make([]bool, n)
	for i, r := range rows {
		if r.window < 0 {
			sum += r.weight
			wrong++
		} else if !seen[r.window] {
			seen[r.window], best[r.window] = true, r.weight
			sum += r.weight + p.fn
			hit++
		} else if r.weight > best[r.window] {
			sum += r.weight - best[r.window]
			best[r.window] = r.weight
		}
		if i+1 < len(rows) && rows[i+1].score == r.score {
			continue
		}
		if !math.IsNaN(at) {
			if r.score >= at {
				top = mark{sum, r.score, hit, n, wrong}
			}
		} else if sum > top.result {
			top = mark{sum, r.score, hit, n, wrong}
		}
	}
	if n > 0 {
		top.result = 100 * (top.result - silence) / (float64(n)*p.tp - silence)
	}
	return top
}

func (m mark) String() string {
	return fmt.Sprintf("%5.1f (at %.4f: %d of %d windows, %d rows outside)", m.result, m.threshold, m.hit, m.windows, m.outside)
}

// scores is what the detector says, told nothing but the rows.
func (l *labelled) scores() []float64 {
	d := New(Anything())
	out := make([]float64, len(l.values))
	for i, v := range l.values {
		out[i] = d.Score(l.times[i], v)
	}
	return out
}

// reached is the standard profile's result on the public series when the detector
// was last changed.
const reached = 69.8

// TestBenchmark prints the results by category and profile, and guards them. A
// category is also judged at the threshold that is best for the others.
func TestBenchmark(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("SKIP: it takes seconds")
	}
	series := corpus(t)
	scores := make([][]float64, len(series))
	var wg sync.WaitGroup
	for i, l := range series {
		wg.Go(func() { scores[i] = l.scores() })
	}
	wg.Wait()
	part := func(category string, in bool) ([]*labelled, [][]float64) {
		var some []*labelled
		var theirs [][]float64
		for i, l := range series {
			if (l.category() == category) == in {
				some, theirs = append(some, l), append(theirs, scores[i])
			}
		}
		return some, theirs
	}
	var categories []string
	for _, l := range series {
		if !slices.Contains(categories, l.category()) {
			categories = append(categories, l.category())
		}
	}
	best := math.NaN()
	for _, p := range profiles {
		all := assess(series, scores, p, best)
		t.Logf("%-9s all series          %v; as an alarm, %v", p.name, all, assess(series, scores, p, 0.5))
		sum, windows := 0.0, 0
		for _, c := range categories {
			others, theirs := part(c, false)
			some, mine := part(c, true)
			if m := assess(some, mine, p, assess(others, theirs, p, best).threshold); m.windows == 0 {
				t.Logf("%-9s %-22s no windows, %d rows flagged", p.name, c, m.outside)
			} else {
				t.Logf("%-9s %-22s %v", p.name, c, m)
				sum, windows = sum+m.result*float64(m.windows), windows+m.windows
			}
		}
		t.Logf("%-9s each category at the threshold of the others: %.1f", p.name, sum/float64(windows))
		if p.name == "standard" && all.result < reached-2 {
			t.Errorf("the result fell to %.1f, it was %.1f", all.result, reached)
		}
	}
}

// TestScorer checks the scorer itself on a series that can be worked out by hand.
func TestScorer(t *testing.T) {
	t.Parallel()
	l := &labelled{name: "c/x.csv", values: make([]float64, 100), windows: [][2]int{{40, 49}}}
	flag := func(rows ...int) [][]float64 {
		s := make([]float64, 100)
		for _, r := range rows {
			s[r] = 1
		}
		return [][]float64{s}
	}
	far := 0.11 / 2 * 100 // a false alarm of weight 0.11, of two that lie between silence and perfection
	for _, c := range []struct {
		name string
		rows []int
		want float64
	}{
		{"the first row of the window", []int{40}, 100},
		{"also later rows of it", []int{40, 41, 49}, 100},
		{"the last row", []int{49}, 50 * (1 + sigmoid(-0.1)/sigmoid(-1))},
		{"nothing", nil, 0},
		{"while warming up", []int{3}, 0},
		{"and far before", []int{20, 40}, 100 - far},
		{"and far behind", []int{40, 99}, 100 - far},
		{"and just behind", []int{40, 50}, 100 + 50*0.11*sigmoid(1.0/9)},
	} {
		if got := assess([]*labelled{l}, flag(c.rows...), profiles[0], 1).result; math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if m := assess([]*labelled{l}, flag(20, 21, 22), profiles[0], math.NaN()); m.result != 0 || !math.IsInf(m.threshold, 1) {
		t.Errorf("false alarms alone: %v, want silence", m)
	}
}
