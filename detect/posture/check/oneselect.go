package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// oneSelect refuses what is not a single SELECT. The server runs the query with
// readonly = 1 besides: this is for a plain answer when the file is read.
func oneSelect(query string) error {
	if len(query) > maxQuery {
		return fmt.Errorf("longer than %d bytes", maxQuery)
	}
	words, err := sqlWords(query)
	switch {
	case err != nil:
		return err
	case len(words) == 0:
		return errors.New("give a SELECT")
	}
	if words[0] != "SELECT" && words[0] != "WITH" {
		return fmt.Errorf("must be a single SELECT (or WITH ... SELECT), and begins with %s", words[0])
	}
	if !slices.Contains(words, "SELECT") {
		return errors.New("holds no SELECT")
	}
	for i, w := range words {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch {
		case w == "INTO" && next == "OUTFILE", w == "FORMAT" && next != "(" && next != "" && next != ",", w == "SETTINGS":
			return fmt.Errorf("%s is not allowed: the answer is read, and its limits set, by Keysentry", w)
		case w == ";" && next != "":
			return errors.New("must be a single statement")
		}
	}
	return nil
}

// sqlWords are the words of a query in capitals and its other signs, without
// comments; a literal or quoted name is the word '.
func sqlWords(q string) ([]string, error) {
	var out []string
	for i := 0; i < len(q); {
		c := q[i]
		switch {
		case strings.ContainsRune(" \t\r\n", rune(c)):
			i++
		case strings.HasPrefix(q[i:], "--"), c == '#':
			if n := strings.IndexByte(q[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(q)
			}
		case strings.HasPrefix(q[i:], "/*"):
			n := strings.Index(q[i+2:], "*/")
			if n < 0 {
				return nil, errors.New("a comment is not closed")
			}
			i += n + 4
		case c == '\'' || c == '"' || c == '`':
			n := quoted(q[i:])
			if n < 0 {
				return nil, fmt.Errorf("a quote (%c) is not closed", c)
			}
			out, i = append(out, "'"), i+n
		case wordByte(c):
			n := i
			for n < len(q) && wordByte(q[n]) {
				n++
			}
			out, i = append(out, strings.ToUpper(q[i:n])), n
		default:
			out, i = append(out, string(c)), i+1
		}
	}
	return out, nil
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quoted is the length of a quoted piece at the head of q; below zero when it does
// not end.
func quoted(q string) int {
	for i := 1; i < len(q); i++ {
		switch q[i] {
		case '\\':
			i++
		case q[0]:
			if i+1 < len(q) && q[i+1] == q[0] { // doubled
				i++
				continue
			}
			return i + 1
		}
	}
	return -1
}
