package event

import "time"

// Instant is a point in time as nanoseconds since 1970-01-01T00:00:00Z. Zero
// means absent. It is a plain integer because an event has many of them and
// columns want integers.
type Instant int64

// At converts t; the zero time becomes the absent instant.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixNano())
}

// Time converts back, in UTC. The absent instant becomes the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// Add shifts the instant.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub is the duration from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// String is RFC 3339 with nanoseconds, or "-" when absent.
func (i Instant) String() string {
	if i == 0 {
		return "-"
	}
	return i.Time().Format(time.RFC3339Nano)
}

// MarshalText writes RFC 3339 with nanoseconds, empty when absent.
func (i Instant) MarshalText() ([]byte, error) {
	if i == 0 {
		return []byte{}, nil
	}
	return i.Time().AppendFormat(nil, time.RFC3339Nano), nil
}

// UnmarshalText reads what MarshalText writes.
func (i *Instant) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*i = 0
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return err
	}
	*i = At(t)
	return nil
}
