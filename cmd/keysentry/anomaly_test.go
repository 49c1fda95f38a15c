package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// load is rows of a series with a spike, from a header on.
func load(rows, spike int) string {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	at := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		v := 10 + math.Sin(float64(i)/7) + 0.1*math.Sin(float64(i*i))
		if i == spike {
			v = 90
		}
		fmt.Fprintf(&b, "%s,%.4f\n", at.Add(time.Duration(i)*5*time.Minute).Format(time.DateTime), v)
	}
	return b.String()
}

func scored(t *testing.T, in string, args ...string) []string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"anomaly", "score", "--csv", "-"}, args...), stdio{strings.NewReader(in), &out, &errs}); code != exitGood {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// TestScoresOfATruncatedFile: a row's score depends on the rows up to it alone.
func TestScoresOfATruncatedFile(t *testing.T) {
	t.Parallel()
	const rows, spike = 900, 600
	whole := scored(t, load(rows, spike))
	alarms := 0
	for i, line := range whole[1:] {
		score, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ',')+1:], 64)
		if err != nil || score < 0 || score > 1 {
			t.Fatalf("line %q: %v", line, err)
		}
		if score >= 0.5 {
			alarms++
		}
		if i == spike && score < 0.5 {
			t.Errorf("the spike: %s", line)
		}
	}
	if alarms > 3 {
		t.Errorf("%d alarms", alarms)
	}
	for _, n := range []int{0, 1, 150, spike, spike + 1, rows - 1} {
		part := scored(t, load(n, spike))
		if len(part) != n+1 {
			t.Fatalf("%d lines of %d rows", len(part), n)
		}
		for i, line := range part {
			if line != whole[i] {
				t.Fatalf("cut at %d, line %d: %s, want %s", n, i+1, line, whole[i])
			}
		}
	}
}

// TestScoresOfAStream: a row is scored before the next one is waited for.
func TestScoresOfAStream(t *testing.T) {
	t.Parallel()
	in, feed := io.Pipe()
	out, print := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"anomaly", "score", "--csv", "-"}, stdio{in, print, io.Discard})
		_ = print.Close()
	}()
	lines := bufio.NewScanner(out)
	for _, line := range strings.SplitAfter(strings.TrimSpace(load(5, -1)), "\n") {
		if _, err := io.WriteString(feed, strings.TrimSpace(line)+"\n"); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), strings.TrimSpace(line)) {
			t.Fatalf("after %q: %q", line, lines.Text())
		}
	}
	_ = feed.Close()
	if code := <-done; code != exitGood {
		t.Errorf("exit code %d", code)
	}
}

// TestScoresWithARange: a value outside the range is an alarm.
func TestScoresWithARange(t *testing.T) {
	t.Parallel()
	in := load(600, -1)
	free, bound := scored(t, in), scored(t, in, "--min", "-5", "--max", "10.5")
	if strings.Join(free, "") == strings.Join(bound, "") {
		t.Error("--max changed nothing, although values are above it")
	}
	if strings.Join(free, "") != strings.Join(scored(t, in, "--min", "8", "--max", "12"), "") {
		t.Error("a range that holds every value changed a score")
	}
}

// FuzzAnomalyScore: whatever the file holds, every printed row has a score, and a
// file that is refused is refused with one line.
func FuzzAnomalyScore(f *testing.F) {
	f.Add([]byte(load(150, 120)))
	f.Add([]byte("timestamp,value\n1,2\n1,-0\n2026-01-01T00:00:00Z,1e308\n-99999999999999,-1e308\n"))
	f.Add([]byte("\ufeffvalue,\"timestamp\"\r\n1,2026-01-01\r\n\"x\ny\",2\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"anomaly", "score", "--csv", "-"}, stdio{bytes.NewReader(in), &out, &errs})
		if code != exitGood && errs.Len() == 0 {
			t.Fatalf("exit code %d without a word", code)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatalf("what was printed is no CSV: %v", err)
		}
		for i, r := range rows {
			if s, err := strconv.ParseFloat(r[len(r)-1], 64); i > 0 && (len(r) != 3 || err != nil || !(s >= 0 && s <= 1)) {
				t.Fatalf("row %d: %q", i, r)
			}
		}
	})
}
