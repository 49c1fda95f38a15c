package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Script is one scenario file; docs/howto/write-a-scenario.md describes it. Make
// one with ParseScript.
type Script struct {
	Name  string `yaml:"name"`
	About string `yaml:"about"`
	// Incident names the public incident that it is modelled on, Source is where
	// to read of it.
	Incident string `yaml:"incident"`
	Source   string `yaml:"source"`
	// At is when it begins: a time after the start of the run, a share of the run
	// (40%), or a range of either, of which the seed chooses. Empty: not within the
	// first week, at any hour, and with others in a part of the run of its own.
	At string `yaml:"at"`
	// Hours is when within that day, after midnight UTC, as 19h..23h; empty: at any
	// hour. A run that does not have those hours of that day is not changed.
	Hours   string `yaml:"hours"`
	Network struct {
		// DormantKey is a second key that works, and that nobody uses any more.
		DormantKey bool `yaml:"dormant_key"`
	} `yaml:"network"`
	Label struct {
		Kind    string `yaml:"kind"`
		Subject string `yaml:"subject"`
		// Key says which key is meant, when the subject is one.
		Key   string `yaml:"key"`
		Cause string `yaml:"cause"`
		Theft bool   `yaml:"theft"`
	} `yaml:"label"`
	Actors map[string]yaml.Node `yaml:"actors"`
	Acts   []yaml.Node          `yaml:"acts"`

	file   string
	at     moment
	hours  moment
	cause  event.Cause
	actors map[string]actor
	acts   []act
}

// actor is somebody who is none of us.
type actor struct {
	nets      []netip.Prefix
	addresses int // how many; each in a /24 of its own when spread
	spread    bool
	agent     string
}

// act is one thing that somebody does, for a while.
type act struct {
	line             int
	do               string
	at, span         moment
	every            moment // the gap
	share            float64
	count            int
	by               string
	key              string
	users            string
	sessions         string // who sees those that follow: client, gateway or none
	seen             string
	as               string
	what             string
	admin            int
	role             string
	field            string
	clock            moment
	harmless, inside bool
}

// moment is a span of time, from lo to hi; with share both are parts of the run.
type moment struct {
	lo, hi float64
	share  bool
}

// maxScript bounds a file, in bytes.
const maxScript = 1 << 20

// fault is an error at a line of the file.
func (s *Script) fault(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", s.file, line, fmt.Errorf(format, args...))
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// ParseScript reads a scenario; file is how errors name it, as file:line.
func ParseScript(file string, text []byte) (*Script, error) {
	s := &Script{file: file, actors: map[string]actor{}}
	if len(text) > maxScript {
		return nil, fmt.Errorf("%s: a scenario has at most %d bytes, this has %d", file, maxScript, len(text))
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(s); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s:1: the file is empty", file)
		}
		var te *yaml.TypeError
		if errors.As(err, &te) && len(te.Errors) > 0 {
			err = errors.New(te.Errors[0])
		}
		text := err.Error()
		if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
			return nil, fmt.Errorf("%s:%s: %s", file, text[m[2]:m[3]], text[m[1]:])
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: a scenario is one document; there is more after it", file)
	}
	return s, s.check()
}

var scriptName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

var subjects = []string{"key_id", "user_id", "source_ip", "host", "network"}

func (s *Script) check() error {
	var err error
	if !scriptName.MatchString(s.Name) || s.Name == Ordinary {
		return s.fault(1, "name %q: give small letters, digits and dashes, and not %q", s.Name, Ordinary)
	}
	if s.About == "" {
		return s.fault(1, "about: say in a sentence what happens")
	}
	if s.At != "" {
		if s.at, err = parseMoment(s.At); err != nil {
			return s.fault(1, "at: %w", err)
		}
	}
	if s.Hours != "" {
		if s.hours, err = parseMoment(s.Hours); err != nil || s.hours.share || s.hours.hi > float64(day) {
			return s.fault(1, "hours: %q: give times after midnight, such as 19h..23h", s.Hours)
		}
	}
	if !slices.Contains(finding.Kinds(), finding.Kind(s.Label.Kind)) {
		return s.fault(1, "label: kind %q: give one of %v", s.Label.Kind, finding.Kinds())
	}
	if !slices.Contains(subjects, s.Label.Subject) {
		return s.fault(1, "label: subject %q: give one of %s", s.Label.Subject, strings.Join(subjects, ", "))
	}
	if s.Label.Key == "" {
		s.Label.Key = "live"
	}
	if !slices.Contains(keyNames, s.Label.Key) {
		return s.fault(1, "label: key %q: give one of %s", s.Label.Key, strings.Join(keyNames, ", "))
	}
	var ok bool
	if s.cause, ok = event.ParseCause(s.Label.Cause); !ok {
		return s.fault(1, "label: there is no cause %q", s.Label.Cause)
	}
	for name, n := range s.Actors {
		if s.actors[name], err = s.parseActor(&n); err != nil {
			return err
		}
	}
	if len(s.Acts) == 0 {
		return s.fault(1, "acts: there are none, so nothing happens")
	}
	for i := range s.Acts {
		a, err := s.parseAct(&s.Acts[i])
		if err != nil {
			return err
		}
		s.acts = append(s.acts, a)
	}
	return nil
}

// places are where an actor may come from, beside a prefix of one's own.
var places = map[string][]string{
	"cloud":   {"250.0.0.0/16", "250.1.0.0/16"},
	"hosting": {"251.0.0.0/16"},
	"vpn":     {"252.0.0.0/16"},
	"home":    {"243.0.0.0/16"},
	"office":  {"242.0.0.0/24"},
}

func (s *Script) parseActor(n *yaml.Node) (actor, error) {
	a := actor{addresses: 1}
	err := s.fields(n, "actor", func(key string, v *yaml.Node) error {
		switch key {
		case "from":
			list := places[v.Value]
			if list == nil {
				list = []string{v.Value}
			}
			for _, text := range list {
				p, err := netip.ParsePrefix(text)
				if one, e := netip.ParseAddr(text); e == nil {
					p, err = netip.PrefixFrom(one, one.BitLen()), nil
				}
				if err != nil || !p.Addr().Is4() {
					return fmt.Errorf("from %q: give cloud, hosting, vpn, home, office, or an IPv4 address or prefix", v.Value)
				}
				a.nets = append(a.nets, p)
			}
			return nil
		case "addresses":
			return count(v, &a.addresses)
		case "spread":
			return boolean(v, &a.spread)
		case "agent":
			a.agent = v.Value
			return nil
		}
		return errNoField
	})
	if err == nil && a.nets == nil {
		err = s.fault(n.Line, "actor: from is missing")
	}
	return a, err
}

var errNoField = errors.New("no such field")

// fields goes through a mapping; what take makes of one is told with its line.
func (s *Script) fields(n *yaml.Node, what string, take func(key string, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return s.fault(n.Line, "%s: give a mapping", what)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if v.Kind != yaml.ScalarNode {
			return s.fault(v.Line, "%s: %s: give one value", what, k.Value)
		}
		if err := take(k.Value, v); errors.Is(err, errNoField) {
			return s.fault(k.Line, "%s has no field %q", what, k.Value)
		} else if err != nil {
			return s.fault(v.Line, "%s: %w", what, err)
		}
	}
	return nil
}

func count(v *yaml.Node, to *int) error {
	n, err := strconv.Atoi(v.Value)
	if err != nil || n < 1 || n > 1_000_000 {
		return fmt.Errorf("%q: give a number from 1 to 1000000", v.Value)
	}
	*to = n
	return nil
}

func boolean(v *yaml.Node, to *bool) error {
	b, err := strconv.ParseBool(v.Value)
	if err != nil {
		return fmt.Errorf("%q: give true or false", v.Value)
	}
	*to = b
	return nil
}

// parseMoment reads 90s, 36h, 3d, 40%, or two of a kind with .. between.
func parseMoment(text string) (moment, error) {
	lo, hi, two := strings.Cut(text, "..")
	if !two {
		hi = lo
	}
	a, shareA, errA := parsePoint(lo)
	b, shareB, errB := parsePoint(hi)
	if errA != nil || errB != nil || shareA != shareB || b < a {
		return moment{}, fmt.Errorf("%q: give a time such as 90s, 36h or 3d, a share of the run such as 40%%, or a range as 10s..60s", text)
	}
	return moment{a, b, shareA}, nil
}

func parsePoint(text string) (v float64, share bool, err error) {
	if p, ok := strings.CutSuffix(text, "%"); ok {
		v, err = strconv.ParseFloat(p, 64)
		if err == nil && !(v >= 0 && v <= 100) {
			err = errors.New("not a share")
		}
		return v / 100, true, err
	}
	if p, ok := strings.CutSuffix(text, "d"); ok {
		v, err = strconv.ParseFloat(p, 64)
		if err == nil && !(v >= 0 && v <= 3650) {
			err = errors.New("too long")
		}
		return v * float64(day), false, err
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errors.New("negative")
	}
	return float64(d), false, err
}
