package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/detect/anomaly"
)

func anomalyCommand(std stdio) *cobra.Command {
	c := group("anomaly", "Judge any series of numbers", "Judge any series of numbers, as the daemon judges counts.")
	c.AddCommand(anomalyScoreCommand(std))
	return c
}

func anomalyScoreCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "score --csv FILE", Short: "Score each row of a series by how unlike its past it is", Args: noArgs,
		Example: `  keysentry anomaly score --csv requests.csv
  keysentry anomaly score --csv load.csv --time at --value cpu_percent --min 0 --max 100`,
		Long: `Read a CSV file with a header, and print timestamp, value and anomaly_score for
each row. A score lies between 0 and 1; half or more is an alarm, after which the next
200 rows are damped. It depends on the row and those before it alone, so that a file
that grows can be scored while it does. The first hundred rows score 0.

Times are RFC 3339, "2006-01-02 15:04:05" (UTC), a date, or seconds or milliseconds
since 1970. They tell the time of the day; rows may be irregular, have gaps and
equal times, and count in the order given. A row that cannot be read ends the
command with its line, unless --skip-bad passes over it.`}
	o := scoreOptions{bounds: anomaly.Anything()}
	f := c.Flags()
	file := f.String("csv", "", "`FILE` with a header, or - for standard input")
	f.StringVar(&o.time, "time", "timestamp", "`COLUMN` of the time")
	f.StringVar(&o.value, "value", "value", "`COLUMN` of the value")
	low := f.String("min", "", "least `VALUE` that the series may have; a smaller one is an alarm")
	high := f.String("max", "", "largest `VALUE` that the series may have; a larger one is an alarm")
	f.BoolVar(&o.skip, "skip-bad", false, "pass over rows that cannot be read, and count them")
	c.RunE = func(*cobra.Command, []string) error {
		if *file == "" {
			return usage(errors.New("give --csv FILE, or --csv - for standard input"))
		}
		if err := errors.Join(o.bound("--min", *low, &o.bounds.Min), o.bound("--max", *high, &o.bounds.Max)); err != nil {
			return usage(err)
		}
		if o.bounds.Min > o.bounds.Max {
			return usage(fmt.Errorf("--min %s is above --max %s", *low, *high))
		}
		in, closeIn, err := openInput(std, *file)
		if err != nil {
			return usage(err)
		}
		defer closeIn()
		if err := o.score(in, std); err != nil {
			var exit *exitError
			if err = fmt.Errorf("%s: %w", *file, err); errors.As(err, &exit) {
				return &exitError{exit.Code, err}
			}
			return err
		}
		return nil
	}
	return c
}

// scoreOptions say how a file is read.
type scoreOptions struct {
	time, value string // names of columns
	bounds      anomaly.Range
	skip        bool
}

func (o *scoreOptions) bound(flag, text string, to *float64) error {
	if text == "" {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) {
		return fmt.Errorf("%s: %q is no number", flag, text)
	}
	*to = v
	return nil
}

// series reads the rows of a file.
type series struct {
	csv             *csv.Reader
	timeAt, valueAt int
	columns         scoreOptions
}

// score prints the score of every row. What was scored is printed before it waits
// for more.
func (o *scoreOptions) score(in io.Reader, std stdio) error {
	buffered := bufio.NewReaderSize(in, 1<<16) // csv takes it as it is
	out := bufio.NewWriterSize(std.out, 1<<16)
	rows, err := o.open(buffered)
	if err != nil {
		return usage(err)
	}
	w := csv.NewWriter(out)
	d := anomaly.New(o.bounds)
	err = w.Write([]string{"timestamp", "value", "anomaly_score"})
	skipped, back := 0, 0
	var last time.Time
	for n := 0; err == nil; n++ {
		if buffered.Buffered() == 0 {
			w.Flush()
			if err = out.Flush(); err != nil {
				break
			}
		}
		at, value, fields, bad := rows.next()
		switch {
		case errors.Is(bad, io.EOF):
			w.Flush()
			o.remark(std.err, n-skipped, skipped, back)
			return errors.Join(w.Error(), out.Flush())
		case bad != nil && o.skip && !rows.broken(bad):
			skipped++
			continue
		case bad != nil:
			w.Flush()
			return errors.Join(bad, out.Flush())
		}
		if at.Before(last) {
			back++
		}
		last = at
		err = w.Write(append(fields, strconv.FormatFloat(d.Score(at, value), 'f', 6, 64)))
	}
	return err
}

// remark says what a person should know of the file.
func (o *scoreOptions) remark(to io.Writer, rows, skipped, back int) {
	if rows == 0 {
		fmt.Fprintln(to, "keysentry: the file has no rows")
	}
	if skipped > 0 {
		fmt.Fprintf(to, "keysentry: %d rows could not be read and were passed over\n", skipped)
	}
	if back > 0 {
		fmt.Fprintf(to, "keysentry: %d rows are earlier than the one before; rows are taken in the order of the file\n", back)
	}
}

// open reads the header.
func (o *scoreOptions) open(in io.Reader) (*series, error) {
	s := &series{csv: csv.NewReader(in), columns: *o}
	s.csv.ReuseRecord = true
	s.csv.TrimLeadingSpace = true
	s.csv.FieldsPerRecord = -1
	header, err := s.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; its first line must name the columns")
	} else if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	names := make([]string, len(header))
	for i, h := range header {
		names[i] = strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))
	}
	s.timeAt, s.valueAt = slices.Index(names, o.time), slices.Index(names, o.value)
	for _, c := range []struct {
		flag, name string
		at         int
	}{{"--time", o.time, s.timeAt}, {"--value", o.value, s.valueAt}} {
		if c.at < 0 {
			return nil, fmt.Errorf("there is no column %q; give %s one of %s", c.name, c.flag, strings.Join(names, ", "))
		}
	}
	return s, nil
}

// broken reports whether an error is one of reading, not of a row.
func (s *series) broken(err error) bool {
	var parse *csv.ParseError
	var row *badRow
	return !errors.As(err, &parse) && !errors.As(err, &row)
}

// badRow is a row that is no reading.
type badRow struct {
	line   int
	reason string
}

func (e *badRow) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.reason) }

// next is the next row: its time, its value, and both as they are written.
func (s *series) next() (time.Time, float64, []string, error) {
	row, err := s.csv.Read()
	if err != nil {
		return time.Time{}, 0, nil, err
	}
	bad := func(format string, args ...any) (time.Time, float64, []string, error) {
		line, _ := s.csv.FieldPos(0)
		return time.Time{}, 0, nil, &badRow{line, fmt.Sprintf(format, args...)}
	}
	if need := max(s.timeAt, s.valueAt) + 1; len(row) < need {
		return bad("%d fields, want at least %d", len(row), need)
	}
	when, text := strings.TrimSpace(row[s.timeAt]), strings.TrimSpace(row[s.valueAt])
	at, ok := parseWhen(when)
	if !ok {
		return bad("%s %.60q is no time; use RFC 3339, \"2006-01-02 15:04:05\", a date, or seconds or milliseconds since 1970", s.columns.time, when)
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return bad("%s %.60q is no finite number", s.columns.value, text)
	}
	return at, value, []string{when, text}, nil
}

// parseWhen reads a time in one of the forms that the help names.
func parseWhen(s string) (time.Time, bool) {
	for _, layout := range []string{time.DateTime, time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(math.Abs(n) < 1e15) {
		return time.Time{}, false
	}
	if math.Abs(n) >= 1e11 { // seconds would be after the year 5000
		n /= 1000
	}
	whole, part := math.Modf(n)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), true
}
