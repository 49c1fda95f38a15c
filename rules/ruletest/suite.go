package ruletest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
	"go.yaml.in/yaml/v3"
)

// suite is the tests of one file.
type suite struct {
	Tests []testCase `yaml:"tests"`

	file string
	err  error
}

// testCase is one named case.
type testCase struct {
	Name   string      `yaml:"name"`
	Events []yaml.Node `yaml:"events"`
	Expect expectation `yaml:"expect"`
}

// expectation says what a case should bring. Findings are complete: one that is
// not named is a failure. So are matches, unless only findings are given. A rule
// about raw records brings matches only; findings of single rules are made from
// canonical events.
type expectation struct {
	Matches  []wantMatch   `yaml:"matches"`
	Findings []wantFinding `yaml:"findings"`
}

type wantMatch struct {
	Rule   string  `yaml:"rule"`
	Events []int64 `yaml:"events"` // indexes into the case's events; a repeated one counts once per repetition
	Count  *int    `yaml:"count"`
}

type wantFinding struct {
	Rule  string            `yaml:"rule"`
	At    *span             `yaml:"at"`
	Group map[string]string `yaml:"group"`
	Value *float64          `yaml:"value"`
}

// span is a duration such as 90s, 500ms or 2d.
type span time.Duration

// UnmarshalYAML reads Go durations and days.
func (s *span) UnmarshalYAML(n *yaml.Node) error {
	d, err := parseSpan(n.Value)
	*s = span(d)
	return err
}

func parseSpan(s string) (time.Duration, error) {
	if n := len(s); n > 1 && s[n-1] == 'd' {
		days, err := strconv.Atoi(s[:n-1])
		return time.Duration(days) * 24 * time.Hour, err
	}
	return time.ParseDuration(s)
}

// parseSuite reads a NAME.test.yml file.
func parseSuite(f rules.File) suite {
	s := suite{file: f.Name}
	dec := yaml.NewDecoder(bytes.NewReader(f.Data))
	dec.KnownFields(true)
	if s.err = dec.Decode(&s); s.err != nil {
		s.Tests = nil
	}
	return s
}

// embedded reads the tests: keys of a rule file.
func embedded(f rules.File) suite {
	out := suite{file: f.Name}
	for dec := yaml.NewDecoder(bytes.NewReader(f.Data)); ; {
		var doc struct {
			Tests yaml.Node `yaml:"tests"`
		}
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		var bad *yaml.TypeError
		if err != nil && !errors.As(err, &bad) {
			return out // the load reports it
		}
		if doc.Tests.IsZero() {
			continue
		}
		// Through text, because only a decoder refuses unknown keys.
		b, err := yaml.Marshal(map[string]*yaml.Node{"tests": &doc.Tests})
		if err == nil {
			s := parseSuite(rules.File{Name: f.Name, Data: b})
			out.Tests, err = append(out.Tests, s.Tests...), s.err
		}
		out.err = errors.Join(out.err, err)
	}
}

// record is one event of a case, ready to be judged.
type record struct {
	ts    event.Instant
	index int64 // of the event as the case writes it
	event event.Event
	raw   []byte // a JSON record; nil for a canonical event
}

// maxRecords bounds the events of one case.
const maxRecords = 1_000_000

// records builds the events of a case.
func (c *testCase) records(canonical bool) ([]record, error) {
	var out []record
	for i := range c.Events {
		fields := map[string]any{}
		if err := c.Events[i].Decode(&fields); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		at, err := take(fields, "at")
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		every, err := take(fields, "every")
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		n := 1
		if v, ok := fields["repeat"].(int); ok {
			n = v
			delete(fields, "repeat")
		}
		if n < 1 || len(out)+n > maxRecords {
			return nil, fmt.Errorf("event %d: repeat must be at least 1, and a case has at most %d events", i, maxRecords)
		}
		for k := range n {
			r := record{ts: epoch.Add(at + time.Duration(k)*every), index: int64(i)}
			if canonical {
				err = r.setEvent(fields)
			} else {
				err = r.setRaw(fields)
			}
			if err != nil {
				return nil, fmt.Errorf("event %d: %w", i, err)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// take removes a duration from the fields.
func take(fields map[string]any, key string) (time.Duration, error) {
	v, ok := fields[key]
	if !ok {
		return 0, nil
	}
	delete(fields, key)
	d, err := parseSpan(fmt.Sprint(v))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return d, nil
}

func (r *record) setRaw(fields map[string]any) error {
	if _, ok := fields["time"]; !ok {
		withTime := map[string]any{"time": r.ts.String()}
		for k, v := range fields {
			withTime[k] = v
		}
		fields = withTime
	}
	var err error
	r.raw, err = json.Marshal(fields)
	return err
}

// setEvent builds a canonical event. Fields that only the daemon sets may be
// given too: that is how a test says what the cause was.
func (r *record) setEvent(fields map[string]any) error {
	e := &r.event
	e.TS, e.ObservedAt = r.ts, r.ts
	e.SetInstant(event.FieldTime, r.ts)
	for name, v := range fields {
		f, ok := event.ParseField(name)
		if !ok {
			return fmt.Errorf("events have no field %q", name)
		}
		if err := setField(e, f, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if e.Type == event.TypeUnknown {
		return errors.New("the type is missing")
	}
	return nil
}

func setField(e *event.Event, f event.Field, v any) error {
	text := fmt.Sprint(v)
	switch f.Kind() {
	case event.KindString:
		return setText(e, f, text)
	case event.KindInstant:
		t, isTime := v.(time.Time)
		if !isTime {
			var err error
			if t, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return err
			}
		}
		e.SetInstant(f, event.At(t))
		return nil
	case event.KindAddr:
		a, err := netip.ParseAddr(text)
		if f == event.FieldSourceIP {
			e.SourceIP = a
		} else {
			e.ClientIP = a
		}
		e.Present = e.Present.Set(f)
		return err
	case event.KindEnum:
		return setEnum(e, f, text)
	}
	return setNumber(e, f, text)
}

func setText(e *event.Event, f event.Field, text string) (err error) {
	switch {
	case f < event.FieldOrigin:
		e.SetString(f, text)
	case f == event.FieldTraits:
		e.Traits, err = event.ParseTraits(text)
	case f == event.FieldSourceNet:
		e.SourceNet = text
	default:
		err = errors.New("cannot be set in a test")
	}
	return err
}

func setEnum(e *event.Event, f event.Field, text string) error {
	e.Present = e.Present.Set(f)
	switch f {
	case event.FieldType:
		return e.Type.UnmarshalText([]byte(text))
	case event.FieldAuthMode:
		return e.Mode.UnmarshalText([]byte(text))
	case event.FieldOrigin:
		return e.Origin.UnmarshalText([]byte(text))
	}
	e.CauseConfidence = 1
	return e.Cause.UnmarshalText([]byte(text))
}

func setNumber(e *event.Event, f event.Field, text string) error {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	switch f {
	case event.FieldSeq:
		e.Seq = uint64(n)
	case event.FieldStatus:
		e.Status = uint16(n)
	case event.FieldClockOffset:
		e.ClockOffset = n
	case event.FieldClockError:
		e.ClockError = n
	default:
		return errors.New("cannot be set in a test")
	}
	e.Present = e.Present.Set(f)
	return nil
}
