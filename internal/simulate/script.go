package simulate

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

//go:embed scenarios/*.yml
var scenarioFiles embed.FS

// Script is one scenario: what happens besides ordinary life, and what should come
// of it. docs/reference/simulator.md describes the file.
type Script struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"` // one line for people
	About string `yaml:"about"` // what it is modelled on, with its source
	// Incident is the kind of incident that should come of it; Subject what it
	// should be about.
	Incident finding.Kind `yaml:"incident"`
	Subject  Subject      `yaml:"subject"`
	// Theft says that a rotation of the key should be proposed.
	Theft bool `yaml:"theft"`
	// Cause is the true cause of its refused events.
	Cause Cause `yaml:"cause"`
	// At is when it begins, as a share of the run; When places it in a month.
	At   Share `yaml:"at"`
	When When  `yaml:"when"`
	Acts []Act `yaml:"acts"`
}

// Subject names what an incident is about.
type Subject string

// The subjects.
const (
	LiveKey    Subject = "live_key"
	OldKey     Subject = "old_key" // live when the scenario begins
	DormantKey Subject = "dormant_key"
	NewKey     Subject = "new_key" // made by the scenario
	Victim     Subject = "victim"  // the user whose token is replayed
	Source     Subject = "source"  // the first address of the intruder
	DriftHost  Subject = "host"    // whose clock runs away
)

// When is the place of a scenario in a month.
type When string

// The places. Others than a day of its own are for what happens during something.
const (
	OwnDay   When = ""
	Baseline When = "baseline" // on the first day, before anything is learnt
	Rotation When = "rotation" // while both keys work
)

// Act is one thing that an intruder does, or that happens.
type Act struct {
	Act   Verb `yaml:"act"`
	After Span `yaml:"after"` // the beginning of the scenario
	For   Span `yaml:"for"`
	// Every is the mean pause between two events.
	Every time.Duration `yaml:"every"`
	// Key is presented by mint and job.
	Key Subject `yaml:"key"`
	// From is where it comes from: one address, or many networks.
	From string `yaml:"from"`
	// Users chosen: random, sequence, few.
	Users string `yaml:"users"`
	// Sessions opens one with every token; Reported says that the intruder uses the
	// app, which reports it.
	Sessions bool `yaml:"sessions"`
	Reported bool `yaml:"reported"`
	// Actor and Role act in the console; What they do there.
	Actor string     `yaml:"actor"`
	Role  string     `yaml:"role"`
	What  event.Type `yaml:"what"`
	// Total is how far a clock runs away.
	Total time.Duration `yaml:"total"`
	// Busy lets the rate follow the traffic's: a twentieth of it, at least one a
	// second.
	Busy bool `yaml:"busy"`
	// Ours lets it be no part of the attack: the owner does it.
	Ours bool `yaml:"ours"`
}

// Verb says what an act does.
type Verb string

// The verbs.
const (
	Mint    Verb = "mint"    // asks the platform for tokens with a key
	Forge   Verb = "forge"   // opens sessions with tokens that nobody minted
	Replay  Verb = "replay"  // opens a session with somebody's token, from elsewhere
	Victims Verb = "victims" // logs in as many users through the real backend
	Job     Verb = "job"     // mints as the nightly job
	Console Verb = "console" // acts as an administrator
	Leak    Verb = "leak"    // writes the value of the live key into a text
	Rotate  Verb = "rotate"  // the owner changes the key, in a tenth of the run
	Drift   Verb = "drift"   // a host's clock runs away
)

// Cause is an event.Cause in a file.
type Cause struct{ event.Cause }

// UnmarshalYAML reads the name.
func (c *Cause) UnmarshalYAML(n *yaml.Node) error {
	v, ok := event.ParseCause(n.Value)
	if !ok {
		return fmt.Errorf("line %d: there is no cause %q", n.Line, n.Value)
	}
	c.Cause = v
	return nil
}

// Share is a part of the run, written as 40%.
type Share float64

// UnmarshalYAML reads it.
func (s *Share) UnmarshalYAML(n *yaml.Node) error {
	digits, ok := strings.CutSuffix(n.Value, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || v < 0 || v > 100 {
		return fmt.Errorf("line %d: %q is no share of the run: write 40%%", n.Line, n.Value)
	}
	*s = Share(v / 100)
	return nil
}

// Span is a duration, or a share of the run.
type Span struct {
	d     time.Duration
	share Share
}

// UnmarshalYAML reads either.
func (s *Span) UnmarshalYAML(n *yaml.Node) error {
	if strings.HasSuffix(n.Value, "%") {
		return s.share.UnmarshalYAML(n)
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil || d < 0 {
		return fmt.Errorf("line %d: %q is neither a duration (20m) nor a share of the run (40%%)", n.Line, n.Value)
	}
	s.d = d
	return nil
}

func (s Span) of(run time.Duration) time.Duration {
	return s.d + time.Duration(float64(s.share)*float64(run))
}

// ParseScript reads one file; name is for messages.
func ParseScript(name string, text []byte) (*Script, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var s Script
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &s, nil
}

// check reports every fault of a script.
func (s *Script) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Name == "" || s.Title == "" {
		bad("name and title: must not be empty")
	}
	if s.Incident != "none" && !slices.Contains(finding.Kinds(), s.Incident) {
		bad("incident: %q is none of %v", s.Incident, finding.Kinds())
	}
	subjects := []Subject{LiveKey, OldKey, DormantKey, NewKey, Victim, Source, DriftHost}
	if s.Incident != "none" && !slices.Contains(subjects, s.Subject) {
		bad("subject: %q is none of %v", s.Subject, subjects)
	}
	if !slices.Contains([]When{OwnDay, Baseline, Rotation}, s.When) {
		bad("when: %q is neither %s nor %s", s.When, Baseline, Rotation)
	}
	if len(s.Acts) == 0 {
		bad("acts: must not be empty")
	}
	for i := range s.Acts {
		for _, err := range s.Acts[i].check() {
			bad("acts[%d]: %w", i, err)
		}
	}
	return errors.Join(errs...)
}

func (a *Act) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	choose := func(field, v string, of ...string) {
		if v != "" && !slices.Contains(of, v) {
			bad("%s: %q is none of %v", field, v, of)
		}
	}
	switch a.Act {
	case Mint, Job:
		if !slices.Contains([]Subject{LiveKey, OldKey, DormantKey, NewKey, "unknown"}, a.Key) {
			bad("key: %q is none of live_key, old_key, dormant_key, new_key, unknown", a.Key)
		}
	case Console:
		if !a.What.Lifecycle() {
			bad("what: %q is no event of the console", a.What)
		}
	case Forge, Replay, Victims, Leak, Rotate, Drift:
	default:
		bad("act: %q is none of mint, forge, replay, victims, job, console, leak, rotate, drift", a.Act)
	}
	if a.Every <= 0 && !a.Busy && slices.Contains([]Verb{Mint, Forge, Victims, Job}, a.Act) {
		bad("every: the mean pause between two events is needed, or busy: true")
	}
	choose("from", a.From, "abroad", "many", "fleet")
	choose("users", a.Users, "random", "sequence", "few")
	return errs
}

// shipped parses the embedded scenarios once.
var shipped = sync.OnceValue(func() []*Script {
	files, err := scenarioFiles.ReadDir("scenarios")
	if err != nil {
		panic(err) // an embedded folder can be read
	}
	var out []*Script
	for _, f := range files {
		text, err := scenarioFiles.ReadFile("scenarios/" + f.Name())
		if err != nil {
			panic(err)
		}
		s, err := ParseScript(f.Name(), text)
		if err != nil {
			panic(err) // a test reads them all
		}
		out = append(out, s)
	}
	return out
})

// ScriptNamed finds a shipped scenario.
func ScriptNamed(name string) (*Script, error) {
	for _, s := range shipped() {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w %q: `keysentry simulate --help` lists them", ErrScenario, name)
}

// Attacks are the shipped scenarios that are modelled on public incidents.
func Attacks() []*Script {
	var out []*Script
	for _, s := range shipped() {
		if s.About != "" {
			out = append(out, s)
		}
	}
	return out
}

// maxScript bounds a scenario file, in bytes.
const maxScript = 1 << 20

// LoadScripts reads a file, or all *.yml of a folder.
func LoadScripts(path string) ([]*Script, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.yml")); err != nil {
			return nil, fmt.Errorf("scenarios: %w", err)
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("scenarios: %s holds no *.yml", path)
		}
	}
	var out []*Script
	var errs []error
	for _, f := range files {
		if i, err := os.Stat(f); err == nil && i.Size() > maxScript {
			errs = append(errs, fmt.Errorf("%s: more than %d bytes", f, maxScript))
			continue
		}
		text, err := os.ReadFile(f)
		if err == nil {
			var s *Script
			if s, err = ParseScript(f, text); err == nil {
				out = append(out, s)
			}
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}
