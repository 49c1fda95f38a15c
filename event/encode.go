package event

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Append appends the canonical JSON of e to dst: one object, the fields that
// are present, in the order of the documentation. Fields that only the daemon
// sets are left out. Bytes that are no UTF-8 become U+FFFD.
func Append(dst []byte, e *Event) []byte {
	dst = append(dst, '{')
	first := true
	for s := e.Present & (1<<FieldOrigin - 1); s != 0; s &= s - 1 {
		f := s.first()
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, fieldNames[f]...)
		dst = append(dst, '"', ':')
		dst = appendValue(dst, e, f)
	}
	return append(dst, '}')
}

func appendValue(dst []byte, e *Event, f Field) []byte {
	if p := e.str(f); p != nil {
		return appendString(dst, *p)
	}
	if p := e.instant(f); p != nil {
		dst = append(dst, '"')
		dst = time.Unix(0, int64(*p)).UTC().AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"')
	}
	switch f {
	case FieldType:
		return appendString(dst, e.Type.String())
	case FieldAuthMode:
		return appendString(dst, e.Mode.String())
	case FieldSeq:
		return strconv.AppendUint(dst, e.Seq, 10)
	case FieldStatus:
		return strconv.AppendUint(dst, uint64(e.Status), 10)
	case FieldClockOffset:
		return strconv.AppendFloat(dst, e.ClockOffset, 'g', -1, 64)
	case FieldClockError:
		return strconv.AppendFloat(dst, e.ClockError, 'g', -1, 64)
	case FieldSourceIP:
		return appendString(dst, e.SourceIP.String())
	case FieldClientIP:
		return appendString(dst, e.ClientIP.String())
	}
	return append(dst, "null"...)
}

const hexDigits = "0123456789abcdef"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			if c == '"' || c == '\\' {
				dst = append(dst, '\\', c)
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
