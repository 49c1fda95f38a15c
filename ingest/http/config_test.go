package httpingest

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/secret"
)

func topics(names ...string) (out []ingest.TopicConfig) {
	for _, n := range names {
		out = append(out, ingest.TopicConfig{Name: n})
	}
	return out
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := func() SourceConfig {
		return SourceConfig{Name: "gw-1", Token: secret.Ref{Env: "A"}, Topic: "t", MaxBody: 1 << 10, Rate: 0.1}
	}
	with := func(change func(*SourceConfig)) Config {
		s := good()
		change(&s)
		return Config{Sources: []SourceConfig{s}}
	}
	other := good()
	other.Name, other.Token = "other", secret.Ref{File: "A"}
	for name, tc := range map[string]struct {
		cfg  Config
		want []string // beginnings of the faults
	}{
		"nobody":             {DefaultConfig(), nil},
		"good":               {Config{Sources: []SourceConfig{good(), other}}, nil},
		"no bounds given":    {with(func(s *SourceConfig) { s.MaxBody, s.Rate = 0, 0 }), nil},
		"nothing given":      {Config{Sources: []SourceConfig{{}}}, []string{"sources[0].name: ", "sources[0].token: ", "sources[0].topic: "}},
		"twice":              {Config{Sources: []SourceConfig{good(), good()}}, []string{"sources[1].name: ", "sources[1].token: "}},
		"a name for a label": {with(func(s *SourceConfig) { s.Name = "GW 1" }), []string{"sources[0].name: "}},
		"a long name":        {with(func(s *SourceConfig) { s.Name = strings.Repeat("a", 64) }), []string{"sources[0].name: "}},
		"a token in place":   {with(func(s *SourceConfig) { s.Token = secret.Ref{Env: "hunter2!"} }), []string{"sources[0].token: "}},
		"a body too small":   {with(func(s *SourceConfig) { s.MaxBody = 1023 }), []string{"sources[0].max_body_bytes: "}},
		"a body too large":   {with(func(s *SourceConfig) { s.MaxBody = 16<<20 + 1 }), []string{"sources[0].max_body_bytes: "}},
		"no rate":            {with(func(s *SourceConfig) { s.Rate = -1 }), []string{"sources[0].events_per_second: "}},
		"a rate of no sort":  {with(func(s *SourceConfig) { s.Rate = math.NaN() }), []string{"sources[0].events_per_second: "}},
		"an endless rate":    {with(func(s *SourceConfig) { s.Rate = math.Inf(1) }), []string{"sources[0].events_per_second: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			errs := tc.cfg.Validate()
			if len(errs) != len(tc.want) {
				t.Fatalf("got %v, want %q", errs, tc.want)
			}
			for i, err := range errs {
				if !strings.HasPrefix(err.Error(), tc.want[i]) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want %q", err, tc.want[i])
				}
			}
		})
	}
}

// TestNewRefuses what shows only when tokens and topics are known.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	two := Config{Sources: []SourceConfig{{Name: "a", Token: secret.Ref{Env: "A"}, Topic: "t"}, {Name: "b", Token: secret.Ref{Env: "B"}, Topic: "t"}}}
	for name, tc := range map[string]struct {
		cfg  Config
		env  map[string]string
		want string
	}{
		"good":           {two, map[string]string{"A": gatewayToken, "B": consoleToken}, ""},
		"one token":      {two, map[string]string{"A": gatewayToken, "B": gatewayToken}, "sources[1].token: is the token of a too"},
		"no token":       {two, map[string]string{"A": gatewayToken}, "sources[1].token: environment variable B"},
		"another topic":  {Config{Sources: []SourceConfig{{Name: "a", Token: secret.Ref{Env: "A"}, Topic: "keysentry.journal"}}}, map[string]string{"A": gatewayToken}, "sources[0].topic: "},
		"not even valid": {Config{Sources: []SourceConfig{{}}}, nil, "sources[0].name: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(tc.cfg, Deps{Topics: topics("t"), Getenv: func(k string) string { return tc.env[k] }})
			if (err == nil) != (tc.want == "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", errors.Unwrap(err), tc.want)
			}
		})
	}
}
