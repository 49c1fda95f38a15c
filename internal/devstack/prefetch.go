package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// What Prefetch can fetch.
const (
	FetchClickHouse  = "clickhouse"
	FetchApacheKafka = "kafka"
)

// Prefetch fetches parts into the cache, so that nothing is downloaded later:
// those named, or all. What is there already, or not needed because the
// machine has a clickhouse binary, is left. Every part is tried; the error says
// which could not be had.
func Prefetch(ctx context.Context, w io.Writer, what ...string) error {
	if len(what) == 0 {
		what = []string{FetchClickHouse, FetchApacheKafka}
	}
	var errs []error
	for _, part := range what {
		path, err := prefetch(ctx, w, part)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, _ = fmt.Fprintf(w, "devstack: %s: %s\n", part, path)
	}
	return errors.Join(errs...)
}

func prefetch(ctx context.Context, w io.Writer, part string) (path string, err error) {
	switch part {
	case FetchClickHouse:
		e, err := findEngine(ctx, w)
		return e.describe(), err
	case FetchApacheKafka:
		if _, err := findJava(); err != nil {
			return "", err
		}
		return ensureKafkaJars(ctx, w)
	}
	return "", fmt.Errorf("prefetch %q: want %s or %s", part, FetchClickHouse, FetchApacheKafka)
}
