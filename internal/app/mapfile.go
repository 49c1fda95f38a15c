package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/cloudevents"
	"github.com/keysentry/keysentry/ingest/mapping"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// Canonical is the name that stands for events that need no mapping.
const Canonical = "canonical"

// openMappings is the shipped mappings, below those of a folder when one is given.
func openMappings(folder string) (fs.FS, error) {
	shipped, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil || folder == "" {
		return shipped, err
	}
	if info, err := os.Stat(folder); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", folder)
	}
	return mapping.Folders{os.DirFS(folder), shipped}, nil
}

// MappingNames lists the mappings of a folder and the shipped ones.
func MappingNames(folder string) ([]string, error) {
	fsys, err := openMappings(folder)
	if err != nil {
		return nil, err
	}
	return mapping.Names(fsys)
}

// InputOptions say how the records of a file are decoded.
type InputOptions struct {
	Mapping string // name, mapping.Auto or Canonical
	Folder  string // of further mappings, or empty
	Network string // of events that name none
	Year    int    // of times that leave it out; 0: this year
	Zone    string // of times that leave it out; empty: UTC
}

// input decodes the records of a file as the daemon decodes those of a topic.
type input struct {
	dec    *ingest.Decoder
	mask   *redact.Redactor
	m      *mapping.Mapping // nil: canonical or auto
	set    *mapping.Set     // auto
	topic  ingest.TopicConfig
	clock  *ingest.Clock
	offset int64
}

// inputTime is the reader's clock for a file, which has none that would be ahead
// of ours: syslog lines of December lie in the future until then, since they have
// no year.
var inputTime = event.At(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))

// inputKey makes the fingerprints of a command that stores nothing.
const inputKey = "a file"

func newInput(o InputOptions) (*input, error) {
	if o.Year == 0 {
		o.Year = time.Now().Year()
	}
	in := &input{clock: ingest.NewClock(1), mask: redact.New(), topic: ingest.TopicConfig{Name: "input", Origin: event.OriginBackend, Observed: ingest.ObservedProducer,
		Lifecycle: true, Mapping: o.Mapping, Network: o.Network, Year: o.Year, Zone: o.Zone, MaxBytes: ingest.MaxMessageBytes}}
	fsys, err := openMappings(o.Folder)
	if err != nil {
		return nil, err
	}
	switch o.Mapping {
	case Canonical:
		in.topic.Mapping = ""
	case mapping.Auto:
		if in.set, err = mapping.LoadSet(fsys); err != nil {
			return nil, err
		}
	default:
		if in.m, err = mapping.Load(fsys, o.Mapping); err != nil {
			return nil, err
		}
	}
	cfg := ingest.DefaultConfig()
	cfg.Topics = []ingest.TopicConfig{in.topic}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	in.dec, err = ingest.NewDecoder(cfg, ingest.DecoderDeps{Redactor: in.mask, Mappings: fsys, FingerprintKey: secret.New(inputKey)})
	return in, err
}

// CheckInput reports what is wrong with the options.
func CheckInput(o InputOptions) error {
	_, err := newInput(o)
	return err
}

// lines reports whether a record is a line.
func (in *input) lines() bool { return in.set != nil || in.m != nil && in.m.Text() }

// decode decodes the next record.
func (in *input) decode(raw []byte) (*ingest.Batch, error) {
	f := &ingest.Fetched{Records: []ingest.Record{{Offset: in.offset, Time: inputTime, Value: raw}}, Next: in.offset + 1}
	b, err := in.dec.Decode(event.Partition{Topic: in.topic.Name}, f, in.offset, in.clock, inputTime)
	in.offset++
	return b, err
}

// RecordDecoder returns a function that turns one record of a named mapping, or
// one canonical record, into events, and whether a record is a line of text.
// Effective time is the record's own.
func RecordDecoder(name string) (decode func(raw []byte) ([]event.Event, error), text bool, err error) {
	in, err := newInput(InputOptions{Mapping: name, Network: "input"})
	if err != nil {
		return nil, false, err
	}
	return func(raw []byte) ([]event.Event, error) {
		b, err := in.decode(raw)
		if err != nil {
			return nil, err
		}
		if len(b.Rejects) > 0 {
			return nil, fmt.Errorf("%s: %s", b.Rejects[0].Reason, b.Rejects[0].Detail)
		}
		return b.Events, nil
	}, in.lines(), nil
}

// Mapped is what one record of a file became: an event or a reject.
type Mapped struct {
	Record  int64  // from 0
	Line    int    // at which it begins, from 1
	Mapping string // empty when none recognised it, and for canonical events
	Event   *event.Event
	Reject  *ingest.Reject
}

// Idx is the place of the event inside its record.
func (m *Mapped) Idx() int32 {
	if m.Event != nil {
		return m.Event.Ref.Idx
	}
	return m.Reject.Ref.Idx
}

// MapSummary counts what happened to a file.
type MapSummary struct {
	Records, Events, Rejects int64
	Unread                   map[string]int64 // records per field that no mapping reads
}

// maxUnread bounds the names that a summary holds.
const maxUnread = 1000

// MapFile decodes the records of a file and calls emit for everything they become,
// in order, until it fails.
func MapFile(o InputOptions, file io.Reader, emit func(*Mapped) error) (MapSummary, error) {
	sum := MapSummary{Unread: map[string]int64{}}
	in, err := newInput(o)
	if err != nil {
		return sum, err
	}
	r := mapping.NewReader(file, in.m, ingest.MaxMessageBytes)
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("record %d: %w", sum.Records, err)
		}
		b, err := in.decode(rec.Value)
		if err != nil {
			return sum, fmt.Errorf("record %d: %w", sum.Records, err)
		}
		name := in.inspect(rec.Value, sum.Unread)
		for _, m := range inOrder(b) {
			m.Record, m.Line, m.Mapping = sum.Records, rec.Line, name
			if m.Event != nil {
				sum.Events++
			} else {
				sum.Rejects++
			}
			if err := emit(&m); err != nil {
				return sum, err
			}
		}
		b.Release()
		sum.Records++
	}
}

// inOrder is what a record became by its places inside it.
func inOrder(b *ingest.Batch) []Mapped {
	var out []Mapped
	for i := range b.Events {
		out = append(out, Mapped{Event: &b.Events[i]})
	}
	for i := range b.Rejects {
		out = append(out, Mapped{Reject: &b.Rejects[i]})
	}
	slices.SortFunc(out, func(a, b Mapped) int { return int(a.Idx()) - int(b.Idx()) })
	return out
}

// inspect names the mapping of a record and counts the fields that it leaves out.
func (in *input) inspect(value []byte, unread map[string]int64) string {
	values := [][]byte{value}
	if cloudevents.Is(value, nil) {
		values = nil
		cloudevents.Open(value, nil, ingest.MaxMessageBytes, func(env cloudevents.Envelope, err error) {
			if err == nil {
				values = append(values, env.Data)
			}
		})
	}
	name := ""
	for _, v := range values {
		m := in.m
		if in.set != nil {
			choice, err := in.set.Choose(v, mapping.Options{Year: in.topic.Year, Key: []byte(inputKey), MaxBytes: ingest.MaxMessageBytes})
			if err != nil {
				continue
			}
			m = choice.Mapping()
		}
		if m == nil {
			continue
		}
		name = m.Name()
		for _, field := range m.Unread(v, mapping.Options{MaxBytes: ingest.MaxMessageBytes}) {
			field, _ = in.mask.String(field) // a source may keep things by their tokens
			if _, known := unread[field]; known || len(unread) < maxUnread {
				unread[field]++
			}
		}
	}
	return name
}
