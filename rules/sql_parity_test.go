package rules

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
)

// eventGen makes random rules and events that meet often.
type eventGen struct {
	gen
	fields []event.Field
}

func newEventGen(seed uint64) eventGen {
	g := eventGen{gen: gen{rand.New(rand.NewPCG(seed, 1))}}
	for f := range event.NumFields {
		g.fields = append(g.fields, f)
		switch f { // the common ones more often
		case event.FieldUserID, event.FieldReason, event.FieldHost, event.FieldActor, event.FieldEndpoint, event.FieldSourceIP, event.FieldCode, event.FieldUserAgent:
			g.fields = append(g.fields, f, f, f)
		}
	}
	return g
}

var (
	genEventTexts = append(slices.Clone(genTexts[:len(genTexts)-1]), "İK", "ik", "ΣΑΣ", "σας", "straße", "STRASSE", "\x00", "it's", `\'`, "401", "0.3", "+7", "07", "1e400", "::1", "010.1.2.3", "%x%", "type", "session", "2026", "é", "É", "x\r\ny")
	genAddrs      = []string{"10.1.2.3", "10.255.0.1", "192.0.2.1", "::", "::1", "::1.2.3.4", "::102:0", "fe80::1", "2001:db8::a:b", "255.255.255.255"}
	genTimes      = []event.Instant{946684800e9, 4133980799999999999, 1773065100e9, 1773065100100e6, 1767225600e9, 1735603200e9 + 1, 1798761599e9 + 500}
	genFloats     = []float64{0, math.Copysign(0, -1), 0.5, -1.5, 1e-7, 1.5e-9, 7, 10, 10.5, 1e21, -2.5e22, 123456789.25}
	genUints      = []uint64{0, 7, 10, 401, 1<<53 + 1, math.MaxUint64, 1773065100}
)

func oneOf[T any](g eventGen, list []T) T { return list[g.IntN(len(list))] }

func (g eventGen) field() string { return oneOf(g, g.fields).String() }

// event is one record, as the daemon hands it to rules and store.
func (g eventGen) event(n int) event.Event {
	e := event.Event{Type: oneOf(g, event.Types()), Origin: event.Origin(g.IntN(7)), Ref: event.Ref{Topic: "ktopic", Partition: 3, Offset: int64(n)}}
	e.Present = e.Present.Set(event.FieldType)
	e.ObservedAt = event.At(time.Date(2026, 3, 1, 10, 0, 0, n, time.UTC))
	e.TS = oneOf(g, genTimes)
	if g.IntN(2) == 0 {
		e.Cause = oneOf(g, event.Causes())
		e.CauseConfidence = oneOf(g, []float32{0, 0.5, 0.9, 1})
	}
	if g.IntN(2) == 0 {
		e.Traits = oneOf(g, []event.Traits{event.TraitUnknownKey, event.TraitUnknownKey | event.TraitOutsideEgress, event.TraitUserSequence})
		e.SourceNet = oneOf(g, []string{"AS64500", "10.1.2.0/24", "2001:db8::/48"})
	}
	for f := range event.FieldOrigin {
		if g.IntN(3) == 0 {
			continue
		}
		switch f {
		case event.FieldType:
		case event.FieldAuthMode:
			e.Mode = oneOf(g, event.AuthModes())
			e.Present = e.Present.Set(f)
		case event.FieldSeq, event.FieldStatus, event.FieldClockOffset, event.FieldClockError, event.FieldSourceIP, event.FieldClientIP:
			g.odd(&e, f)
		default:
			if f.Kind() == event.KindInstant {
				e.SetInstant(f, oneOf(g, genTimes))
			} else {
				e.SetString(f, oneOf(g, genEventTexts))
			}
		}
	}
	return e
}

// odd sets the fields that are neither text nor time.
func (g eventGen) odd(e *event.Event, f event.Field) {
	e.Present = e.Present.Set(f)
	switch f {
	case event.FieldSeq:
		e.Seq = oneOf(g, genUints)
	case event.FieldStatus:
		e.Status = oneOf(g, []uint16{0, 7, 10, 401, 65535})
	case event.FieldClockOffset:
		e.ClockOffset = oneOf(g, genFloats)
	case event.FieldClockError:
		e.ClockError = oneOf(g, genFloats)
	case event.FieldSourceIP:
		e.SourceIP = netip.MustParseAddr(oneOf(g, genAddrs))
	case event.FieldClientIP:
		e.ClientIP = netip.MustParseAddr(oneOf(g, genAddrs))
	}
}

// item is one line of a selection.
func (g eventGen) item() string {
	f := g.field()
	switch g.IntN(18) {
	case 0:
		return fmt.Sprintf("%s|exists: %s", f, g.pick("true", "false"))
	case 1:
		return fmt.Sprintf("%s%s: null", f, g.pick("", "|neq"))
	case 2:
		f = g.pick(f, "seq", "status", "clock_offset", "code", "cause_confidence")
		return fmt.Sprintf("%s%s: %s", f, g.pick("", "|lt", "|lte", "|gt", "|gte", "|neq", "|contains"), g.pick("7", "10", "-7", "10.5", "0x0a", "0.3", "0.9", "1e21", "9007199254740993", "401", "-0.0"))
	case 3:
		return fmt.Sprintf("%s|cidr%s: %s", g.pick(f, "source_ip", "client_ip"), g.pick("", "|neq"), quote(g.pick("10.0.0.0/8", "fe80::/10", "0.0.0.0/0", "::/0", "10.1.2.3", "::1", "::/96")))
	case 4:
		at := g.pick("time", "ts", "issued_at", "sent_at", "cert_not_after", "source_ip", "cause", "observed_at")
		return fmt.Sprintf("%s|%s%s: %s", at, g.pick("minute", "hour", "day", "week", "month", "year"), g.pick("", "|gte", "|lt", "|neq", "|lte", "|gt"), g.pick("0", "1", "3", "9", "14", "2026", "53", "31", "12"))
	case 5, 6:
		return fmt.Sprintf("%s|fieldref%s: %s", f, g.pick("", "|cased", "|startswith", "|endswith", "|contains", "|neq", "|contains|cased"), g.field())
	case 7:
		return fmt.Sprintf("%s|re%s: %s", f, g.pick("", "|i", "|s", "|m", "|i|s"), quote(g.pick("a.b", "^a", "b$", "[A-Z]", "^$", `\d+`, "k", `\bs`, "^10\\.", "T0.:", "(a|b)+c?", "é", ".")))
	case 8:
		return fmt.Sprintf("%s|%s%s: %s", f, g.pick("base64", "base64offset", "utf16le|base64", "wide|base64offset", "utf16be|base64", "utf16|base64"), g.pick("|contains", ""), quote(g.pick("abc", "foo", "a")))
	case 9:
		return fmt.Sprintf("%s: %s", f, g.pick("true", "false"))
	case 10:
		return fmt.Sprintf("%s%s: %s", g.pick("type", "cause", "origin", "auth_mode", "topic"), g.pick("", "|contains", "|startswith", "|neq"), g.pick("session", "SESSION.DENIED", "backend", "secure", "KTOPIC", "ktopic", "expired", "'*_*'", "'*'"))
	case 11:
		return fmt.Sprintf("%s%s: %s", g.pick("source_ip", "client_ip"), g.pick("", "|contains", "|startswith", "|endswith", "|cased"), quote(g.pick(genAddrs...)))
	case 13:
		return fmt.Sprintf("%s%s: %s", g.pick("traits", "source_net"), g.pick("", "|contains", "|startswith", "|endswith", "|neq"), quote(g.pick("unknown_key", "outside_egress", "AS64500", "outside_egress unknown_key", "10.1", "as")))
	case 12:
		return fmt.Sprintf("%s%s: %s", g.pick("time", "ts", "seq", "clock_offset", "offset"), g.pick("|contains", "|startswith", "|endswith", ""), quote(g.pick("2026-03-09t", ".1z", "00Z", "0.0000001", "00", "7", "*5*", "1?", ":0")))
	}
	mods := g.pick("", "", "|contains", "|startswith", "|endswith") + g.pick("", "", "", "|cased", "|windash")
	list := []string{}
	for range 1 + g.IntN(5) {
		list = append(list, quote(oneOf(g, genEventTexts)))
	}
	if len(list) > 1 && g.IntN(3) == 0 {
		mods += "|all"
	} else if g.IntN(6) == 0 {
		mods += "|neq"
	}
	return fmt.Sprintf("%s%s: [%s]", f, mods, strings.Join(list, ", "))
}

// rule is one document.
func (g eventGen) rule(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "title: r%d\nname: r%d\nlogsource: %s\ndetection:\n", i, i,
		g.pick("{product: keysentry}", "{product: keysentry}", "{product: keysentry}", "{service: session}", "{category: authentication}", "{product: keysentry, service: auth_token}"))
	for _, id := range []string{"one", "two", "_three"} {
		fmt.Fprintf(&b, "  %s:\n", id)
		switch g.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "    - %s\n    - %s\n", quote("k"+g.pick("", "*", "?")+oneOf(g, genEventTexts)), quote(oneOf(g, genEventTexts)))
		case 1:
			fmt.Fprintf(&b, "    - {%s}\n    - {%s}\n", g.item(), g.item())
		default:
			seen := map[string]bool{}
			for range 1 + g.IntN(2) {
				it := g.item()
				if key, _, _ := strings.Cut(it, ": "); !seen[key] {
					seen[key] = true
					fmt.Fprintf(&b, "    %s\n", it)
				}
			}
		}
	}
	fmt.Fprintf(&b, "  condition: %s\n", g.pick("one", "one", "one and two", "one or two", "not one", "one and not two", "1 of them", "all of them", "not 1 of t*", "not (one or _three)", "one or two and not _three"))
	return b.String()
}

// refEvent is an event as the reference sees it.
func refEvent(e *event.Event) map[string]any {
	rec := map[string]any{}
	for f := range event.NumFields {
		s, ok := e.Text(f)
		if !ok {
			continue
		}
		rec[f.String()] = s
		if k := f.Kind(); k == event.KindUint || k == event.KindFloat {
			rec[f.String()] = json.Number(s)
		}
	}
	return rec
}

// refEventTexts are the texts of what the message carried.
func refEventTexts(rec map[string]any) []any {
	var out []any
	for f := range event.FieldOrigin {
		if s, ok := rec[f.String()].(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// TestSQLParity: random rules on random events, by the stream, by the reference
// and by ClickHouse on the rows that the daemon's writer made of them. The
// environment sets the number of pairs and repeats a seed.
func TestSQLParity(t *testing.T) {
	pairs := envInt("KEYSENTRY_PARITY_PAIRS", 20_000)
	seed := uint64(envInt("KEYSENTRY_PARITY_SEED", int(rand.Uint32())))
	const perRound = 2000 // events
	c := newStore(t)
	g := newEventGen(seed)
	var events []event.Event
	for n := range min(perRound, max(200, pairs/100)) {
		events = append(events, g.event(n))
	}
	storeEvents(t, c, events)
	done, matches, noSQL, written, compiled := 0, 0, 0, 0, 0
	for round := 0; done < pairs; round++ {
		var text strings.Builder
		n := min(100, (pairs-done)/len(events)+1)
		written += n
		for i := range n {
			text.WriteString(g.rule(i) + "---\n")
		}
		files := []File{{"r.yml", []byte(text.String())}}
		set, diags := Load(files, Options{Layout: LayoutEvent})
		if len(set.Rules) == 0 {
			t.Fatalf("seed %d: no rule compiled: %v", seed, diags)
		}
		compiled += len(set.Rules)
		for _, d := range diags {
			if d.Severity == Error {
				t.Logf("seed %d: %v", seed, d)
			}
		}
		ref := refParse(files, Mapping{})
		verdicts, without := sqlVerdicts(t, set, events, func(sql string) []int64 { return column[int64](t, c, sql) })
		noSQL += without
		m := NewMatcher(set.Program())
		for i := range events {
			e := &events[i]
			got, rec := m.MatchEvent(e, nil), refEvent(e)
			for _, r := range set.Rules {
				rr := ref[r.ID]
				rr.texts = refEventTexts
				want := logSourceFits(r.LogSource, LogSourceOf(e.Type)) && rr.match(rec)
				stream := slices.Contains(got, int32(r.Index))
				sql, has := verdicts[r.Index][int64(i)], verdicts[r.Index] != nil
				if stream != want || has && sql != want {
					text, _ := set.Predicate(r)
					t.Errorf("seed %d: stream %t, reference %t, ClickHouse %t\n%v\n%s\n%s", seed, stream, want, sql, rec, ruleText(string(files[0].Data), r.Name), text)
				}
				if want {
					matches++
				}
				if has {
					done++
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("seed %d: %d pairs of %d rules, %d matches; %d rules did not compile, %d have no SQL", seed, done, compiled, matches, written-compiled, noSQL)
	if compiled < written*9/10 {
		t.Errorf("only %d of %d rules compiled", compiled, written)
	}
}

// sqlVerdicts asks ClickHouse which events satisfy each rule; nil for rules that
// SQL cannot express. One query has several rules, because starting one costs
// more than running it.
func sqlVerdicts(t *testing.T, set *Set, events []event.Event, ask func(string) []int64) (out []map[int64]bool, without int) {
	t.Helper()
	out = make([]map[int64]bool, len(set.Rules))
	var preds []string
	var which []int
	size := 0
	flush := func() {
		if len(preds) == 0 {
			return
		}
		list := strings.Join(preds, ", ")
		for _, v := range ask("SELECT arrayJoin(arrayMap(i -> `offset` * 1000 + toInt64(i) - 1, arrayFilter((i, hit) -> hit, arrayEnumerate([" + list + "]), [" + list + "]))) FROM events FINAL") {
			out[which[v%1000]][v/1000] = true
		}
		preds, which, size = nil, nil, 0
	}
	for _, r := range set.Rules {
		p, diags := set.Predicate(r)
		if len(diags) > 0 {
			if !strings.HasPrefix(string(diags[0].Code), "KS7") {
				t.Fatal(diags)
			}
			without++
			continue
		}
		out[r.Index] = map[int64]bool{}
		preds, which = append(preds, p), append(which, r.Index)
		if size += 2 * len(p); size > 60_000 {
			flush()
		}
	}
	flush()
	return out, without
}

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}
