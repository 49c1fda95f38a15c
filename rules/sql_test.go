package rules

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/store"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

// newStore is a client on a migrated database of its own.
func newStore(t testing.TB) *store.Client {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{devstacktest.ClickHouse(t)}
	cfg.Database = devstacktest.Name(t)
	cfg.Insert.MaxAge = 20 * time.Millisecond
	c, err := store.New(cfg, store.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// storeEvents stores events of one partition through the daemon's writer.
func storeEvents(t testing.TB, c *store.Client, events []event.Event) {
	t.Helper()
	w := store.NewWriter(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	p := event.Partition{Topic: events[0].Ref.Topic, ID: events[0].Ref.Partition}
	if err := w.Assign(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	b := &ingest.Batch{Partition: p, First: events[0].Ref.Offset, Next: events[len(events)-1].Ref.Offset + 1, Events: slices.Clone(events)}
	if err := w.Append(t.Context(), b, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// column reads the only column of an answer.
func column[T any](t testing.TB, c *store.Client, sql string) []T {
	t.Helper()
	rows, err := c.Query(t.Context(), sql, nil)
	if err != nil {
		t.Fatalf("%v in %.2000s", err, sql)
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, vals[0].(T))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%v in %.2000s", err, sql)
	}
	return out
}

// overTexts evaluates an expression of the column v for every text.
func overTexts[T any](t testing.TB, c *store.Client, expr string, texts []string) []T {
	t.Helper()
	quoted := make([]string, len(texts))
	for i, s := range texts {
		quoted[i] = sqlString(s)
	}
	got := column[T](t, c, fmt.Sprintf("SELECT %s FROM (SELECT arrayJoin([%s]) AS v)", expr, strings.Join(quoted, ", ")))
	if len(got) != len(texts) {
		t.Fatalf("%d answers for %d texts", len(got), len(texts))
	}
	return got
}

func TestSQLString(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	texts := []string{"", "'", `\`, `\'`, "a\nb\tc\rd", "\x00", `\n`, "日本", "\u2028", `"`, "`", "{x:String}", "--", "/*", "a\x1bb", "%", "?", "$1"}
	if got := overTexts[string](t, c, "v", texts); !slices.Equal(got, texts) {
		t.Errorf("got %q, want %q", got, texts)
	}
}

// TestSQLFold: every character there is, folded as the stream folds it.
func TestSQLFold(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	var texts []string
	var b strings.Builder
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if r < 0x250 || unicode.ToLower(r) != r || unicode.ToUpper(r) != r || r%97 == 0 && (r < 0xd800 || r > 0xdfff) {
			b.WriteRune(r)
		}
		if unicode.ToLower(unicode.ToLower(r)) != unicode.ToLower(r) {
			t.Errorf("%U folds in two steps, which a comparison with a folded literal does not foresee", r)
		}
		if b.Len() > 1000 {
			texts = append(texts, b.String())
			b.Reset()
		}
	}
	got := overTexts[string](t, c, sqlValue{kind: event.KindString, text: "v"}.foldAll(), texts)
	for i, s := range texts {
		if want := fold(s); got[i] != want {
			t.Errorf("got %q, want %q", got[i], want)
		}
	}
	// With a literal only its characters count.
	for _, lit := range []string{"kits", "äb", "σς", "ß", "İ", "a", "кириллица"} {
		lit = fold(lit)
		for _, up := range []string{strings.ToUpper(lit), strings.ReplaceAll(lit, "k", "\u212a"), strings.ReplaceAll(lit, "i", "İ"), lit, "x" + lit} {
			got := overTexts[uint8](t, c, sqlValue{kind: event.KindString, text: "v"}.fold(lit)+" = "+sqlString(lit), []string{up})
			if want := fold(up) == lit; got[0] == 1 != want {
				t.Errorf("%q folded = %q: got %d, want %t", up, lit, got[0], want)
			}
		}
	}
}

// TestSQLNumberForm: texts that read as numbers, and their values.
func TestSQLNumbers(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	texts := []string{"", "7", "-7", "+7", "7.", ".7", ".", "-", "+", "7e1", "7e", "7e+", "7E-2", "1e400", "-1e400", "1e-400", " 7", "7 ", "7\n", "0x10", "inf", "nan", "1_000", "00012",
		"0.1", "0.3", "123456789012345678901234567890", "4.9e-324", "1.7976931348623157e308", "2.2250738585072011e-308", "9007199254740993", "--7", "٣", "7\x00"}
	g := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		texts = append(texts, strconv.FormatFloat(math.Float64frombits(g.Uint64()), "efg"[g.IntN(3)], g.IntN(19)-1, 64))
		texts = append(texts, fmt.Sprintf("%d.%d", g.IntN(1000), g.IntN(100000)))
	}
	l := &leaf{kind: leafCompare, cmp: "gte", num: 0.3}
	w := &sqlWriter{}
	verdict := overTexts[uint8](t, c, w.value(l, sqlValue{kind: event.KindString, text: "v"}), texts)
	bits := overTexts[uint64](t, c, "reinterpretAsUInt64(ifNull(toFloat64OrNull(v), 0))", texts)
	for i, s := range texts {
		v := fieldValue{text: s}
		n, ok := v.number()
		if want := ok && n >= 0.3; verdict[i] == 1 != want {
			t.Errorf("%q >= 0.3: got %d, want %t", s, verdict[i], want)
		}
		if ok && math.Float64frombits(bits[i]) != n {
			t.Errorf("%q: got %v, want %v", s, math.Float64frombits(bits[i]), n)
		}
	}
}

func TestSQLDecimal(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	nums := []float64{0, math.Copysign(0, -1), 1, -1, 0.1, 1e-6, 1e-7, 1.5e-7, -1.5e-9, 1e20, 1e21, 1.5e21, -1.25e22, 123456789.25, math.MaxFloat64, math.SmallestNonzeroFloat64}
	g := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		if f := math.Float64frombits(g.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			nums = append(nums, f)
		}
		nums = append(nums, g.NormFloat64(), math.Round(g.NormFloat64()*1e6)/1e6)
	}
	var texts, want []string
	for _, f := range nums {
		texts = append(texts, strconv.FormatUint(math.Float64bits(f), 10))
		want = append(want, strconv.FormatFloat(f, 'f', -1, 64))
	}
	got := overTexts[string](t, c, sqlDecimal("toString(reinterpretAsFloat64(toUInt64(v)))"), texts)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v: got %q, want %q", nums[i], got[i], want[i])
		}
	}
}

func TestSQLAddresses(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	list := []string{"::", "::1", "::1.2.3.4", "::102:0", "::1:0", "10.1.2.3", "0.0.0.0", "255.255.255.255", "2001:db8::1", "2001:db8:0:1::1", "1:0:1:1:1:1:1:1", "fe80::1", "1::", "::ffff:0:0:1", "::fffe:1.2.3.4", "0:0:0:0:1::"}
	g := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		var b [16]byte
		for i := range b {
			if g.IntN(3) == 0 {
				b[i] = byte(g.IntN(256))
			}
		}
		list = append(list, netip.AddrFrom16(b).Unmap().String())
	}
	var texts []string
	for _, s := range list {
		a := netip.MustParseAddr(s)
		texts = append(texts, netip.AddrFrom16(a.As16()).String())
	}
	got := overTexts[string](t, c, sqlAddress("toIPv6(v)"), texts)
	for i := range list {
		if want := netip.MustParseAddr(list[i]).String(); got[i] != want {
			t.Errorf("got %q, want %q", got[i], want)
		}
	}
}

// TestSQLAddressText: which texts are addresses, and in which networks.
func TestSQLAddressText(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	texts := []string{"", "1.2.3.4", "01.2.3.4", "1.2.3", "1.2.3.256", "1.2.3.4.5", "::", ":::", "::1", "1::1::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8::", "1::2:3:4:5:6:7:8",
		"::ffff:10.1.2.3", "::ffff:010.1.2.3", "::10.1.2.3", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "1::5:1.2.3.4", "12345::", "fe80::1%eth0", "FE80::A", " ::1", "1.2.3.4 ", "1.2.3.4\n", "g::", ":1", "1:", "1:2", "::1.2.3"}
	g := rand.New(rand.NewPCG(7, 8))
	for range 4000 {
		b := []byte(texts[g.IntN(36)])
		for range 1 + g.IntN(3) {
			i := g.IntN(len(b) + 1)
			if ch := "0123456789abf:::..%"[g.IntN(19)]; g.IntN(2) == 0 {
				b = slices.Insert(b, i, ch)
			} else if i < len(b) {
				b = slices.Delete(b, i, i+1)
			}
		}
		texts = append(texts, string(b))
	}
	for _, network := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/8", "fe80::/10", "1.2.3.4", "::1", "::ffff:10.0.0.0/104", "::ffff:0:0/95", "::/96"} {
		p, ok := parseNet(network)
		if !ok {
			t.Fatalf("%s is no network", network)
		}
		w := &sqlWriter{}
		got := overTexts[uint8](t, c, w.cidr(&leaf{kind: leafCIDR, net: p}, sqlValue{kind: event.KindString, text: "v", column: "v"}), texts)
		for i, s := range texts {
			if want := inNet(s, p); got[i] == 1 != want {
				t.Errorf("%q in %s: got %d, want %t", s, network, got[i], want)
			}
		}
	}
}

// TestSQLRegex: Go's regular expressions as ClickHouse's RE2 reads them.
func TestSQLRegex(t *testing.T) {
	t.Parallel()
	c := newStore(t)
	texts := []string{"", "a", "A", "abc", "ABC", "xabcx", "a\nb", "a\nb\n", "\n", "ab\ncd", "foo bar", "foo_bar", "K", "\u212a", "ſ", "s", "é", "É", "日本", "a.b", "a+b", "$", "^", "a\x00b", "12", "٣", "\u00a0", "Ⅷ", "aaa", "-s:abc", "i:x", "x"}
	for _, re := range []string{"abc", "(?i)abc", "^abc$", "(?m)^cd$", "a.b", "(?s)a.b", "(?s)^a.b$", "(?m)$", "^$", `\bbar\b`, `\Bbar`, `[[:upper:]]`, `\pL`, `\p{Lu}+`, `\P{Greek}`, `(?i)k`, `(?i)s`, `(?i)É`,
		`\d{2}`, `\D`, `\s`, `\w+`, `[^a]`, `[^a-z]`, `(a|b)+`, `(?:x|abc)x`, `(?P<n>a)b`, `a{2,3}`, `a{2,3}?$`, `\Qa+b\E`, `\x41`, `\x{65e5}`, `\.`, `\$`, `a*`, `(?U)a+`, `x*abc`, `(abc)?x`, `[a-cA-C]{3}`, `-s:abc`, `(?i:a)bc`, `(?-i)ABC`,
		`(?i)(?-i)abc`, `foo|bar`, `(foo|ab)c`, `\Aabc\z`, `[\x{0}]`, `(?i)[k]`, `[^\x00-\x{10FFFF}]`, `()`, `a||b`, `.`, `(?s).`, `\n`, `[\n]`} {
		got := overTexts[uint8](t, c, (&sqlWriter{}).regex(&leaf{re: regexp.MustCompile(re)}, sqlValue{text: "v"}), texts)
		for i, s := range texts {
			if want := regexp.MustCompile(re).MatchString(s); got[i] == 1 != want {
				t.Errorf("%q in %q: got %d, want %t; written as %s", re, s, got[i], want, explicitRegex(regexp.MustCompile(re)))
			}
		}
	}
}

func TestPredicateText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, source, detection, want string }{
		{"equality folds", "{product: keysentry}", "{user_id: Bob}", "(bitTest(present, 11) AND lower(user_id) = 'bob')"},
		{"cased", "{product: keysentry}", "{user_id|cased: Bob}", "(bitTest(present, 11) AND user_id = 'Bob')"},
		{"log source", "{product: keysentry, service: session, category: authentication}", "{status: 401}",
			"(type IN ('session.created', 'session.denied', 'session.revoked') AND (bitTest(present, 23) AND status = 401))"},
		{"no such log source", "{product: windows}", "{status: 401}", "0"},
		{"absent", "{product: keysentry}", "{user_id: null}", "NOT (bitTest(present, 11))"},
		{"negation", "{product: keysentry}", "{user_id|neq: a}", "NOT ((bitTest(present, 11) AND lower(user_id) = 'a'))"},
		{"cidr", "{product: keysentry}", "{client_ip|cidr: 10.0.0.0/8}", "(bitTest(present, 32) AND client_ip BETWEEN toIPv6('::ffff:10.0.0.0') AND toIPv6('::ffff:10.255.255.255'))"},
		{"address", "{product: keysentry}", "{source_ip: 10.1.2.3}", "(bitTest(present, 31) AND source_ip = toIPv6('::ffff:10.1.2.3'))"},
		{"no address", "{product: keysentry}", "{source_ip: 010.1.2.3}", "0"},
		{"hour", "{product: keysentry}", "{ts|hour|gte: 22}", "(toUnixTimestamp64Nano(ts) != 0 AND toHour(ts, 'UTC') >= 22)"},
		{"wildcard", "{product: keysentry}", `{endpoint: '/a?/*x'}`, `(bitTest(present, 21) AND match(lower(endpoint), '(?s)\\A/a./.*x\\z'))`},
		{"quote", "{product: keysentry}", `{reason|cased|contains: "it's"}`, `(bitTest(present, 25) AND position(reason, 'it\'s') > 0)`},
		{"always there", "{product: keysentry}", "{offset|exists: true}", "1"},
		{"word of SQL", "{product: keysentry}", "{offset|gt: 5}", "toFloat64(`offset`) > 5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			set, diags := Load([]File{{"r.yml", []byte("title: t\nid: t\nlogsource: " + tc.source + "\ndetection:\n  s: " + tc.detection + "\n  condition: s\n")}}, Options{Layout: LayoutEvent})
			if len(set.Rules) != 1 {
				t.Fatal(diags)
			}
			got, diags := set.Predicate(set.Rules[0])
			if got != tc.want || len(diags) > 0 {
				t.Errorf("got  %s\nwant %s\n%v", got, tc.want, diags)
			}
		})
	}
}

func TestPredicateFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, detection string
		code            Code
		names           []string
	}{
		{"hour of a text", "{reason|hour: 3}", CodeSQLTimePart, nil},
		{"hour of a number", "{seq|hour: 3}", CodeSQLTimePart, nil},
		{"not UTF-8", "{reason|expand: '%x%'}", CodeSQLText, []string{"\xff"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			set, diags := Load([]File{{"r.yml", []byte("title: t\nid: t\nlogsource: {product: keysentry}\ndetection:\n  s: " + tc.detection + "\n  condition: s\n")}},
				Options{Layout: LayoutEvent, Placeholders: map[string][]string{"x": tc.names}})
			if len(set.Rules) != 1 {
				t.Fatal(diags)
			}
			got, diags := set.Predicate(set.Rules[0])
			if got != "" || len(diags) != 1 || diags[0].Code != tc.code || diags[0].Severity != Error || diags[0].File != "r.yml" || diags[0].Line != 1 {
				t.Errorf("got %q, %v; want %s at r.yml:1", got, diags, tc.code)
			}
		})
	}
}
