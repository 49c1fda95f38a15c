package devstack

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

func startApache(t *testing.T, o ApacheOptions) *ApacheKafka {
	t.Helper()
	k, err := StartApacheKafka(t.Context(), o)
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := k.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return k
}

func TestApacheKafkaSurvivesRestart(t *testing.T) {
	t.Parallel()
	o := ApacheOptions{Dir: t.TempDir(), Topics: []Topic{{Name: "in", Configs: LogAppendTime()}}}
	began := time.Now()
	k := startApache(t, o)
	t.Logf("ready after %v, pid %d", time.Since(began), k.Pid())
	answered := produce(t, k.Addr(), "in", 3, 0)
	if time.Since(answered).Abs() > time.Minute {
		t.Errorf("append time in the answer: %v", answered)
	}
	for name, end := range map[string]func(){
		"stop": func() {
			if err := k.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"kill": func() { k.Kill() },
	} {
		end()
		o.Port = k.Port()
		began := time.Now()
		again := startApache(t, o)
		t.Logf("after %s: ready after %v", name, time.Since(began))
		if again.Addr() != k.Addr() {
			t.Errorf("address %s, was %s", again.Addr(), k.Addr())
		}
		for i, r := range consume(t, k.Addr(), "in", 3) {
			if r.Attrs.TimestampType() != 1 || r.Offset != int64(i) || r.Timestamp.UnixMilli() != answered.UnixMilli() {
				t.Errorf("after %s: record %d: %+v", name, i, r)
			}
		}
		k = again
	}
	if got := describeTopic(t, k.Addr(), "in"); got != logAppendTime {
		t.Errorf("%s = %q", timestampType, got)
	}
}
