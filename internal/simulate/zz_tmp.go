package simulate

import "github.com/keysentry/keysentry/event"

type Truth struct {
	Attack    int
	Cause     event.Cause
	LookAlike string
}
type Visibility string

const (
	VisibilityPlatform Visibility = "platform"
	VisibilityBackend  Visibility = "backend"
)

func Visibilities() []Visibility { return []Visibility{VisibilityPlatform, VisibilityBackend} }

type Network struct {
	FingerprintKey []byte
	Secrets        []string
}

func Describe(Options) (Network, error) { return Network{}, nil }

const LookAlikeRotation, LookAlikeSweep = "rotation", "sweep"

type Script struct{}

func Attacks() []*Script                    { return nil }
func LoadScripts(string) ([]*Script, error) { return nil, nil }
