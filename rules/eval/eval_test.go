package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

const spike = `title: Denied
name: denied
logsource: {product: x}
detection:
  sel: {action: denied}
  condition: sel
---
title: Spike
name: spike
level: high
correlation:
  type: event_count
  rules: [denied]
  group-by: [src.ip]
  timespan: 1m
  condition: {gte: 3}
---
title: Root
name: root
logsource: {product: x}
detection:
  sel: {user: root}
  condition: sel
`

func lines(t *testing.T, opt Options, in string) ([]Line, Stats, error) {
	t.Helper()
	var out bytes.Buffer
	stats, err := Run(context.Background(), opt, iotest.OneByteReader(strings.NewReader(in)), &out)
	var got []Line
	for dec := json.NewDecoder(&out); dec.More(); {
		var l Line
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	return got, stats, err
}

func TestRun(t *testing.T) {
	t.Parallel()
	in := `{"time":"2026-01-01T00:00:00Z","action":"denied","src":{"ip":"10.0.0.1"}}
{"time":1767225610,"action":"DENIED","src.ip":"10.0.0.1","user":"root"} {"time":1767225615000,"action":"denied","src":{"ip":"10.0.0.2"}}
[{"time":"2026-01-01 00:00:20","action":"denied","src":{"ip":"10.0.0.1"}}, {"action":"denied"}]`
	got, stats, err := lines(t, Options{Rules: []rules.File{{Name: "r.yml", Data: []byte(spike)}}, Lateness: 5 * time.Second}, in)
	if err != nil {
		t.Fatal(err)
	}
	want := []Line{
		{Kind: "match", RuleID: "root", RuleName: "root", RuleTitle: "Root", Time: "2026-01-01T00:00:10Z", Group: map[string]string{}, Events: []int64{1}, Value: 1},
		{Kind: "finding", RuleID: "spike", RuleName: "spike", RuleTitle: "Spike", Level: "high", Time: "2026-01-01T00:00:20Z",
			Group: map[string]string{"src.ip": "10.0.0.1"}, Events: []int64{0, 1, 3}, Value: 3},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Stats{Events: 5, Matches: 1, Findings: 1, NoTime: 1}, stats); d != "" {
		t.Error(d)
	}
}

func TestRunBadInput(t *testing.T) {
	t.Parallel()
	good := []rules.File{{Name: "r.yml", Data: []byte(spike)}}
	for name, c := range map[string]struct {
		files []rules.File
		in    string
		want  string
	}{
		"cut":         {good, `{"a":1} {"b":`, "record 1: the input ends inside it"},
		"no object":   {good, `{"a":1} 7`, "record 1: not a JSON object"},
		"bad JSON":    {good, `{"a":1} {"b" 2}`, "record 1: invalid JSON at byte 5: a colon is expected"},
		"no rule":     {nil, `{}`, "no rule could be loaded"},
		"broken rule": {append([]rules.File{{Name: "b.yml", Data: []byte("title: x\ndetection: 3")}}, good...), `{"a":1}`, ErrRules.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := lines(t, Options{Rules: c.files}, c.in)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestRunOnLinesOfText(t *testing.T) {
	t.Parallel()
	rule := []rules.File{{Name: "r.yml", Data: []byte("title: Logs\nlogsource: {product: keysentry}\ndetection: {sel: {type: log.record}, condition: sel}")}}
	var seen []string
	opt := Options{Rules: rule, Lines: true, Decode: func(raw []byte) ([]event.Event, error) {
		seen = append(seen, string(raw))
		if raw[0] == '{' {
			return nil, errors.New("unreadable")
		}
		var e event.Event
		err := event.Decode([]byte(`{"type":"log.record","time":"2026-01-01T00:00:00Z"}`), event.Limits{}, &e)
		return []event.Event{e}, err
	}}
	got, stats, err := lines(t, opt, "first line\r\n\n{not JSON\nlast, without an end")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"first line", "{not JSON", "last, without an end"}, seen); d != "" {
		t.Error(d)
	}
	if len(got) != 2 || got[1].Events[0] != 2 || stats.Undecoded != 1 || stats.Reason != "record 1: unreadable" {
		t.Errorf("got %v, %+v", got, stats)
	}
}

func TestRunLogSource(t *testing.T) {
	t.Parallel()
	files := []rules.File{{Name: "r.yml", Data: []byte(spike)}}
	in := `{"user":"root"}`
	if got, _, _ := lines(t, Options{Rules: files, LogSource: map[string]string{"product": "y"}}, in); len(got) != 0 {
		t.Errorf("another log source matched: %v", got)
	}
	if got, _, err := lines(t, Options{Rules: files, LogSource: map[string]string{"product": "x"}}, in); len(got) != 1 || err != nil {
		t.Errorf("the rule's log source did not match: %v, %v", got, err)
	}
}

func TestRunStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Run(ctx, Options{Rules: []rules.File{{Name: "r.yml", Data: []byte(spike)}}}, strings.NewReader("{}"), &bytes.Buffer{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2026-01-01T00:00:00.5Z": "2026-01-01T00:00:00.5Z", "2026-01-01T02:00:00+02:00": "2026-01-01T00:00:00Z",
		"1767225600": "2026-01-01T00:00:00Z", "1767225600123": "2026-01-01T00:00:00.123Z", "1767225600.25": "2026-01-01T00:00:00.25Z",
		"1969-12-31T23:59:59Z": "1969-12-31T23:59:59Z", "-1": "1969-12-31T23:59:59Z",
		"": "-", "soon": "-", "1e300": "-", "99999999999999999": "-",
		"0001-01-01T00:00:00Z": "-", "1600-01-01T00:00:00Z": "-", "2500-01-01 00:00:00": "-", "9999-12-31T23:59:59Z": "-",
	} {
		got, ok := ParseTime(in)
		if got.String() != want || ok != (want != "-") {
			t.Errorf("%q: got %s, %t, want %s", in, got, ok, want)
		}
	}
}

// TestEarlyTimes: the first second of 1970 is a time like any other, and so are
// those before it.
func TestEarlyTimes(t *testing.T) {
	t.Parallel()
	record := func(time string) string {
		return `{"time":` + time + `,"action":"denied","user":"root","src":{"ip":"10.0.0.1"}}` + "\n"
	}
	for name, c := range map[string]struct {
		times   []string
		match   string // time of the first
		finding string
	}{
		"from zero on":     {[]string{"0", "1", "2"}, "1970-01-01T00:00:00Z", "1970-01-01T00:00:02Z"},
		"zero as a date":   {[]string{`"1970-01-01T00:00:00Z"`, "0.0", "1"}, "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"},
		"up to zero":       {[]string{"-2", "-1", "0"}, "1969-12-31T23:59:58Z", "1970-01-01T00:00:00Z"},
		"enough for chart": {strings.Split("-100,-90,-80,-70,-60,-50,-40,-35,-33,-30,-29,-28,-27,-26,-25,-24,-23,-22,-21,-20,-19,-18,-17,-16,-15,-14,-13,-12,-11,-10,-3,-2,-1,4", ","), "1969-12-31T23:58:20Z", "1969-12-31T23:58:40Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := ""
			for _, s := range c.times {
				in += record(s)
			}
			got, stats, err := lines(t, Options{Rules: []rules.File{{Name: "r.yml", Data: []byte(spike)}}}, in)
			if err != nil || stats.NoTime != 0 || len(got) < 4 {
				t.Fatalf("%v, %+v, %+v", err, stats, got)
			}
			for _, l := range got {
				if l.Kind == "finding" && l.Time != c.finding {
					t.Errorf("finding at %s, want %s", l.Time, c.finding)
				}
			}
			if got[0].Time != c.match {
				t.Errorf("match at %s, want %s", got[0].Time, c.match)
			}
		})
	}
}

// TestRunForms: one record per line, several, or one over several lines are read
// alike.
func TestRunForms(t *testing.T) {
	t.Parallel()
	files := []rules.File{{Name: "r.yml", Data: []byte(spike)}}
	long := `{"user":"root","x":"` + strings.Repeat("long ", 1<<17) + `"}` // longer than the buffer
	for name, c := range map[string]struct {
		in   string
		want []int64 // records that match
	}{
		"lines":                 {"{\"user\":\"root\"}\n{}\r\n\n {\"user\":\"root\"} \n", []int64{0, 2}},
		"no end of line":        {"{}\n{\"user\":\"root\"}", []int64{1}},
		"two on a line":         {"{}\n{\"user\":\"root\"}{} {\"user\":\"root\"}\n{\"user\":\"root\"}\n", []int64{1, 3, 4}},
		"one over several":      {"{}\n{\n\"user\":\n\"root\"\n}\n{\"user\":\"root\"}\n", []int64{1, 2}},
		"an array":              {"[{\"user\":\"root\"},\n{\"user\":\"root\"}\n]\n{\"user\":\"root\"}\n", []int64{0, 1, 2}},
		"longer than memory":    {"{}\n" + long + "\n{}\n" + long, []int64{1, 3}},
		"all on one, in memory": {strings.Repeat(`{"user":"guest"}`, 1000) + `{"user":"root"}`, []int64{1000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{strings.NewReader(c.in), iotest.HalfReader(strings.NewReader(c.in)), iotest.DataErrReader(strings.NewReader(c.in))} {
				var out bytes.Buffer
				if _, err := Run(context.Background(), Options{Rules: files}, in, &out); err != nil {
					t.Fatal(err)
				}
				var got []int64
				for dec := json.NewDecoder(&out); dec.More(); {
					var l Line
					if err := dec.Decode(&l); err != nil {
						t.Fatal(err)
					}
					got = append(got, l.Events...)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestRunReadFails(t *testing.T) {
	t.Parallel()
	files := []rules.File{{Name: "r.yml", Data: []byte(spike)}}
	for _, in := range []string{"", "{}\n", "{}\n{", "[{},", strings.Repeat(" ", 1000)} {
		broken := io.MultiReader(strings.NewReader(in), iotest.ErrReader(errors.New("pulled")))
		if _, err := Run(context.Background(), Options{Rules: files}, broken, io.Discard); err == nil || !strings.HasSuffix(err.Error(), ": pulled") {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"a":"}"}{"b":[1,{"c":"\""}]} [{"d":1},{}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Cutting must not depend on how the input arrives.
		read := func(s *splitter) (out []string, fault string) {
			for {
				raw, err := s.next()
				if err != nil {
					return out, err.Error()
				}
				out = append(out, string(raw))
			}
		}
		whole, e1 := read(newSplitter(bytes.NewReader(data)))
		bytewise, e2 := read(newSplitter(iotest.OneByteReader(bytes.NewReader(data))))
		if d := cmp.Diff(whole, bytewise); d != "" || e1 != e2 {
			t.Error(d, e1, e2)
		}
	})
}
