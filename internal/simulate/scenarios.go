package simulate

import "github.com/keysentry/keysentry/event"

// Scenarios lists what Generate knows.
func Scenarios() []Scenario { return nil }

func generate(Options, func(*event.Event) error, func(Label) error) error { return nil }
