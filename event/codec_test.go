package event_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
)

var equal = cmp.Options{cmpopts.EquateComparable(netip.Addr{})}

// mint is a whole, ordinary event.
func mint() event.Event {
	key := []byte("network key")
	var e event.Event
	e.Type = event.TypeAuthTokenIssued
	e.Present = e.Present.Set(event.FieldType)
	e.SetInstant(event.FieldTime, event.At(time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)))
	e.SetString(event.FieldNetwork, "shop")
	e.SetString(event.FieldService, "login-api")
	e.SetString(event.FieldHost, "login-api-7c9f-2")
	e.SetString(event.FieldBoot, "b41f")
	e.Seq, e.Present = 48213, e.Present.Set(event.FieldSeq)
	e.SetString(event.FieldUserID, "user-1182")
	e.SetString(event.FieldKeyID, event.Fingerprint(key, "the server key"))
	e.SetString(event.FieldTokenID, event.Fingerprint(key, "the token"))
	e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	e.Status, e.Present = 200, e.Present.Set(event.FieldStatus)
	e.SourceIP, e.Present = netip.MustParseAddr("203.0.113.9"), e.Present.Set(event.FieldSourceIP)
	return e
}

func decode(t *testing.T, text string) (event.Event, *event.DecodeError) {
	t.Helper()
	var e event.Event
	err := event.Decode([]byte(text), event.Limits{}, &e)
	if err == nil {
		return e, nil
	}
	var de *event.DecodeError
	if !errors.As(err, &de) {
		t.Fatalf("error %T, want *DecodeError", err)
	}
	return e, de
}

func TestDecodeReadsWhatAppendWrites(t *testing.T) {
	t.Parallel()
	want := mint()
	got, de := decode(t, string(event.Append(nil, &want)))
	if de != nil {
		t.Fatal(de)
	}
	if d := cmp.Diff(want, got, equal); d != "" {
		t.Error(d)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text    string
		problem event.Problem
		field   string
	}{
		"no bytes":                   {"", event.ProblemEmpty, ""},
		"white space":                {" \n\t", event.ProblemEmpty, ""},
		"too large":                  {`{"reason":"` + strings.Repeat("a", event.DefaultMaxBytes) + `"}`, event.ProblemTooLarge, ""},
		"byte order mark":            {"\xEF\xBB\xBF{}", event.ProblemBadJSON, ""},
		"truncated":                  {`{"type":"heartbeat"`, event.ProblemBadJSON, ""},
		"truncated in a string":      {`{"type":"heart`, event.ProblemBadJSON, ""},
		"truncated escape":           {`{"host":"\`, event.ProblemBadJSON, ""},
		"trailing garbage":           {`{} x`, event.ProblemBadJSON, ""},
		"two objects":                {`{}{}`, event.ProblemBadJSON, ""},
		"trailing comma":             {`{"host":"a",}`, event.ProblemBadJSON, ""},
		"no comma":                   {`{"host":"a" "boot":"b"}`, event.ProblemBadJSON, ""},
		"no colon":                   {`{"host" "a"}`, event.ProblemBadJSON, ""},
		"single quotes":              {`{'host':'a'}`, event.ProblemBadJSON, ""},
		"comment":                    {`{/**/}`, event.ProblemBadJSON, ""},
		"raw control character":      {"{\"host\":\"a\x01b\"}", event.ProblemBadJSON, ""},
		"unknown escape":             {`{"host":"\x41"}`, event.ProblemBadJSON, ""},
		"short unicode escape":       {`{"host":"\u00"}`, event.ProblemBadJSON, ""},
		"NaN":                        {`{"clock_offset":NaN}`, event.ProblemBadJSON, ""},
		"NaN alone":                  {`NaN`, event.ProblemBadJSON, ""},
		"leading zero":               {`{"seq":01}`, event.ProblemBadJSON, ""},
		"plus sign":                  {`{"x":+1}`, event.ProblemBadJSON, ""},
		"bare point":                 {`{"x":1.}`, event.ProblemBadJSON, ""},
		"bare exponent":              {`{"x":1e}`, event.ProblemBadJSON, ""},
		"mismatched brackets":        {`{"x":[1}}`, event.ProblemBadJSON, ""},
		"array":                      {`[{"host":"a"}]`, event.ProblemNotObject, ""},
		"null":                       {`null`, event.ProblemNotObject, ""},
		"string":                     {`"host"`, event.ProblemNotObject, ""},
		"number":                     {`17`, event.ProblemNotObject, ""},
		"invalid UTF-8":              {"{\"host\":\"\xff\"}", event.ProblemBadUTF8, ""},
		"overlong UTF-8":             {"{\"host\":\"\xc0\xaf\"}", event.ProblemBadUTF8, ""},
		"lone high surrogate":        {`{"host":"\ud800"}`, event.ProblemBadUTF8, ""},
		"lone low surrogate":         {`{"host":"\udc00"}`, event.ProblemBadUTF8, ""},
		"high then text":             {`{"host":"\ud800abcdef"}`, event.ProblemBadUTF8, ""},
		"surrogate in unknown field": {`{"x":"\ud800"}`, event.ProblemBadUTF8, ""},
		"arrays 10,000 deep":         {`{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, event.ProblemTooDeep, ""},
		"objects 10,000 deep":        {strings.Repeat(`{"x":`, 10_000) + "1" + strings.Repeat("}", 10_000), event.ProblemTooDeep, ""},
		"unclosed arrays":            {`{"x":` + strings.Repeat("[", 10_000), event.ProblemTooDeep, ""},
		"duplicate field":            {`{"host":"a","host":"a"}`, event.ProblemDuplicateField, "host"},
		"duplicate by escape":        {`{"host":"a","\u0068ost":"b"}`, event.ProblemDuplicateField, "host"},
		"duplicate null":             {`{"host":null,"host":"b"}`, event.ProblemDuplicateField, "host"},
		"unknown type":               {`{"type":"session.stolen"}`, event.ProblemUnknownType, "type"},
		"type by its zero name":      {`{"type":"unknown"}`, event.ProblemUnknownType, "type"},
		"number for text":            {`{"host":5}`, event.ProblemWrongType, "host"},
		"object for text":            {`{"host":{"a":1}}`, event.ProblemWrongType, "host"},
		"bool for text":              {`{"host":true}`, event.ProblemWrongType, "host"},
		"text for a number":          {`{"seq":"5"}`, event.ProblemWrongType, "seq"},
		"array for a number":         {`{"status":[200]}`, event.ProblemWrongType, "status"},
		"number for a time":          {`{"time":1700000000}`, event.ProblemWrongType, "time"},
		"year 1":                     {`{"time":"0001-01-01T00:00:00Z"}`, event.ProblemBadTime, "time"},
		"year 1999":                  {`{"time":"1999-12-31T23:59:59.999999999Z"}`, event.ProblemBadTime, "time"},
		"year 2101":                  {`{"time":"2101-01-01T00:00:00Z"}`, event.ProblemBadTime, "time"},
		"year 9999":                  {`{"time":"9999-12-31T23:59:59Z"}`, event.ProblemBadTime, "time"},
		"February 30":                {`{"time":"2026-02-30T00:00:00Z"}`, event.ProblemBadTime, "time"},
		"hour 24":                    {`{"time":"2026-02-03T24:00:00Z"}`, event.ProblemBadTime, "time"},
		"no zone":                    {`{"time":"2026-02-03T00:00:00"}`, event.ProblemBadTime, "time"},
		"time of words":              {`{"time":"yesterday at noon, or so"}`, event.ProblemBadTime, "time"},
		"time empty":                 {`{"time":""}`, event.ProblemBadTime, "time"},
		"negative seq":               {`{"seq":-1}`, event.ProblemBadValue, "seq"},
		"huge seq":                   {`{"seq":18446744073709551616}`, event.ProblemBadValue, "seq"},
		"fractional status":          {`{"status":200.5}`, event.ProblemBadValue, "status"},
		"status 70000":               {`{"status":70000}`, event.ProblemBadValue, "status"},
		"huge number":                {`{"clock_offset":1e999}`, event.ProblemBadValue, "clock_offset"},
		"negative error":             {`{"clock_error":-1}`, event.ProblemBadValue, "clock_error"},
		"address of words":           {`{"source_ip":"localhost"}`, event.ProblemBadValue, "source_ip"},
		"address with a port":        {`{"source_ip":"10.0.0.1:80"}`, event.ProblemBadValue, "source_ip"},
		"address with a zone":        {`{"source_ip":"fe80::1%eth0"}`, event.ProblemBadValue, "source_ip"},
		"unknown mode":               {`{"auth_mode":"secret"}`, event.ProblemBadValue, "auth_mode"},
		"raw key":                    {`{"key_id":"b0efec0f3adbf4364c308f1f550b1288d85a4c"}`, event.ProblemBadValue, "key_id"},
		"raw token":                  {`{"token_id":"eyJhbGciOiJIUzI1NiJ9.e30.x"}`, event.ProblemBadValue, "token_id"},
		"short fingerprint":          {`{"session_id":"v1:0123456789abcdef"}`, event.ProblemBadValue, "session_id"},
		"upper-case fingerprint":     {`{"device_id":"v1:0123456789ABCDEF0123456789abcdef"}`, event.ProblemBadValue, "device_id"},
		"id of 129 bytes":            {`{"id":"` + strings.Repeat("a", 129) + `"}`, event.ProblemBadValue, "id"},
		"control character in name":  {`{"host":"a\u0000b"}`, event.ProblemBadValue, "host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := mint()
			got := before
			err := event.Decode([]byte(tc.text), event.Limits{}, &got)
			var de *event.DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("error %v, want *DecodeError", err)
			}
			if de.Problem != tc.problem || de.Field != tc.field {
				t.Errorf("got %v in %q (%s), want %v in %q", de.Problem, de.Field, de.Detail, tc.problem, tc.field)
			}
			if d := cmp.Diff(before, got, equal); d != "" {
				t.Errorf("the event changed: %s", d)
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text  string
		field event.Field
		want  string // "": absent
	}{
		"null is absent":          {`{"host":null}`, event.FieldHost, ""},
		"escapes":                 {`{"reason":"a\n\"\\\/\u00e9\ud83d\ude00"}`, event.FieldReason, "a\n\"\\/é😀"},
		"escaped name":            {`{"\u0068ost":"a"}`, event.FieldHost, "a"},
		"white space":             {" { \"host\" : \"a\" , \"boot\" : \"b\" } \n", event.FieldHost, "a"},
		"nested unknown":          {`{"x":{"y":[1,{"z":[]},"]}",-1.5e+3,true,false,null]},"host":"a"}`, event.FieldHost, "a"},
		"offset":                  {`{"time":"2026-03-01T13:00:00.5+01:30"}`, event.FieldTime, "2026-03-01T11:30:00.5Z"},
		"leap day":                {`{"time":"2024-02-29T00:00:00Z"}`, event.FieldTime, "2024-02-29T00:00:00Z"},
		"first instant":           {`{"time":"2000-01-01T00:00:00Z"}`, event.FieldTime, "2000-01-01T00:00:00Z"},
		"zone moves it in range":  {`{"time":"1999-12-31T23:30:00-01:00"}`, event.FieldTime, "2000-01-01T00:30:00Z"},
		"ten digits of fraction":  {`{"time":"2026-03-01T00:00:00.1234567899Z"}`, event.FieldTime, "2026-03-01T00:00:00.123456789Z"},
		"largest seq":             {`{"seq":18446744073709551615}`, event.FieldSeq, "18446744073709552000"},
		"mapped IPv4":             {`{"source_ip":"::ffff:10.0.0.1"}`, event.FieldSourceIP, "10.0.0.1"},
		"long user agent is cut":  {`{"user_agent":"` + strings.Repeat("a", 1023) + `éé"}`, event.FieldUserAgent, strings.Repeat("a", 1023)},
		"control in free text":    {`{"reason":"a\u0000b"}`, event.FieldReason, "a\x00b"},
		"origin is not believed":  {`{"origin":"platform"}`, event.FieldOrigin, ""},
		"cause is not believed":   {`{"cause":"user_banned"}`, event.FieldCause, ""},
		"ts is not believed":      {`{"ts":"2026-03-01T00:00:00Z"}`, event.FieldTS, ""},
		"second fingerprint form": {`{"key_id":"v22:0123456789abcdef0123456789abcdef"}`, event.FieldKeyID, "v22:0123456789abcdef0123456789abcdef"},
		"unknown twice":           {`{"x":1,"x":2,"host":"a"}`, event.FieldHost, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, de := decode(t, tc.text)
			if de != nil {
				t.Fatal(de)
			}
			got, ok := e.Text(tc.field)
			if ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("got %q, %v, want %q", got, ok, tc.want)
			}
		})
	}
}

func TestDecodeReportsWhatItDrops(t *testing.T) {
	t.Parallel()
	var unknown []string
	var cuts []event.Field
	lim := event.Limits{Unknown: func(n string) { unknown = append(unknown, n) }, Cut: func(f event.Field, text string) string { cuts = append(cuts, f); return text }}
	text := `{"zone":1,"host":"a","origin":"platform","zone":{},"user_agent":"` + strings.Repeat("u", 2000) + `"}`
	var e event.Event
	if err := event.Decode([]byte(text), lim, &e); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"zone", "origin", "zone"}, unknown); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Field{event.FieldUserAgent}, cuts); d != "" {
		t.Error(d)
	}
}

func TestDecodeErrorsHoldNoValues(t *testing.T) {
	t.Parallel()
	const value = "sk_live_51Hxxxxxxxxxxxxxxxxxxxx"
	for _, f := range event.MessageFields() {
		text := `{"` + f.String() + `":"` + value + strings.Repeat("x", 600) + `"}`
		if _, de := decode(t, text); de != nil && strings.Contains(de.Error(), value) {
			t.Errorf("%s: the error holds the value: %v", f, de)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, typ := range event.Types() {
		for f := range event.NumFields {
			if !typ.Required().Has(f) {
				continue
			}
			e := whole(typ)
			e.Present &^= 1 << f
			if f == event.FieldType {
				e.Type = event.TypeUnknown
			}
			var de *event.DecodeError
			if err := e.Validate(); !errors.As(err, &de) || de.Problem != event.ProblemMissingField || de.Field != f.String() {
				t.Errorf("%s without %s: %v", typ, f, err)
			}
		}
		e := whole(typ)
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	e := mint()
	e.SetString(event.FieldUserID, "")
	if err := e.Validate(); err == nil {
		t.Error("a mint with an empty user_id passes")
	}
	var bare event.Event
	bare.Type, bare.Present = event.TypeAuthTokenIssued, bare.Present.Set(event.FieldType)
	bare.SetInstant(event.FieldTime, 1767225600e9)
	if err := bare.ValidateMapped(); err != nil {
		t.Errorf("mapped: %v", err)
	}
}

// whole is an event of the type with every field.
func whole(typ event.Type) event.Event {
	e := mint()
	for _, f := range event.MessageFields() {
		switch f.Kind() {
		case event.KindString:
			if !e.Has(f) {
				e.SetString(f, "x")
			}
		case event.KindInstant:
			e.SetInstant(f, e.Time)
		}
		e.Present = e.Present.Set(f)
	}
	e.Type = typ
	return e
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	// RFC 4231, test case 2, cut to 128 bits.
	if got, want := event.Fingerprint([]byte("Jefe"), "what do ya want for nothing?"), "v1:5bdcc146bf60754e6a042426089575c7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !event.IsFingerprint(event.Fingerprint(nil, "")) {
		t.Error("Fingerprint's output is refused")
	}
	for _, s := range []string{"", "v1:", "5bdcc146bf60754e6a042426089575c7", "x1:5bdcc146bf60754e6a042426089575c7", "v1234:5bdcc146bf60754e6a042426089575c7",
		"v:5bdcc146bf60754e6a042426089575c7z", "va:5bdcc146bf60754e6a042426089575c7", "v1:5bdcc146bf60754e6a042426089575c7 "} {
		if event.IsFingerprint(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestRoundTripProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := draw(t)
		text := event.Append(nil, &want)
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		var got event.Event
		if err := event.Decode(text, event.Limits{}, &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if d := cmp.Diff(want, got, equal); d != "" {
			t.Fatal(d)
		}
	})
}

// draw makes any event that the contract admits.
func draw(t *rapid.T) event.Event {
	var e event.Event
	for _, f := range event.MessageFields() {
		if !rapid.Bool().Draw(t, f.String()+" present") {
			continue
		}
		spec := f.Spec()
		switch {
		case f == event.FieldType:
			e.Type = rapid.SampledFrom(event.Types()).Draw(t, "type")
		case f == event.FieldAuthMode:
			e.Mode = rapid.SampledFrom(event.AuthModes()).Draw(t, "mode")
		case f == event.FieldSeq:
			e.Seq = rapid.Uint64().Draw(t, "seq")
		case f == event.FieldStatus:
			e.Status = rapid.Uint16Range(100, 599).Draw(t, "status")
		case f == event.FieldClockOffset:
			e.ClockOffset = rapid.Float64Range(-3e8, 3e8).Draw(t, "offset")
		case f == event.FieldClockError:
			e.ClockError = math.Abs(rapid.Float64Range(0, 3e8).Draw(t, "error"))
		case f == event.FieldSourceIP || f == event.FieldClientIP:
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")
			a, _ := netip.AddrFromSlice(b[:rapid.SampledFrom([]int{4, 16}).Draw(t, "len")])
			if a = a.Unmap(); f == event.FieldSourceIP {
				e.SourceIP = a
			} else {
				e.ClientIP = a
			}
		case f.Kind() == event.KindInstant:
			e.SetInstant(f, event.Instant(rapid.Int64Range(946684800e9, 4133980799e9).Draw(t, f.String())))
		case spec.Fingerprint:
			e.SetString(f, event.Fingerprint([]byte("k"), rapid.String().Draw(t, f.String())))
		case spec.Name:
			e.SetString(f, rapid.StringMatching(`[ -~é世😀]{0,8}`).Draw(t, f.String()))
		default:
			e.SetString(f, strings.ToValidUTF8(rapid.StringN(0, 60, spec.MaxBytes).Draw(t, f.String()), "?"))
		}
		e.Present = e.Present.Set(f)
	}
	return e
}
