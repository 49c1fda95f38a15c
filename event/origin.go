package event

import "fmt"

// Origin says who saw the event. It is set by the configuration of the topic,
// never by the message.
type Origin uint8

// The values of Origin.
const (
	OriginNone Origin = iota
	OriginPlatform
	OriginGateway
	OriginBackend
	OriginClient
	OriginConsole
	OriginKeysentry
	numOrigins
)

var originNames = [numOrigins]string{
	OriginNone:      "",
	OriginPlatform:  "platform",
	OriginGateway:   "gateway",
	OriginBackend:   "backend",
	OriginClient:    "client",
	OriginConsole:   "console",
	OriginKeysentry: "keysentry",
}

var originByName = nameIndex(originNames[1:])

// ParseOrigin is the inverse of Origin.String; the empty string is OriginNone.
func ParseOrigin(s string) (Origin, bool) {
	if s == "" {
		return OriginNone, true
	}
	i, ok := originByName[s]
	return Origin(i + 1), ok
}

// Origins lists every value but OriginNone, in declaration order.
func Origins() []Origin {
	out := make([]Origin, 0, numOrigins-1)
	for c := OriginNone + 1; c < numOrigins; c++ {
		out = append(out, c)
	}
	return out
}

func (c Origin) String() string {
	if c < numOrigins {
		return originNames[c]
	}
	return fmt.Sprintf("origin(%d)", uint8(c))
}

// MarshalText writes the name.
func (c Origin) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name of the list, or nothing.
func (c *Origin) UnmarshalText(b []byte) error {
	v, ok := ParseOrigin(string(b))
	if !ok {
		return fmt.Errorf("unknown origin %q", b)
	}
	*c = v
	return nil
}
