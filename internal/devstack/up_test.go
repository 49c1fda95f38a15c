package devstack

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// upOnce runs Up until it has said how to connect, and returns what it said.
func upOnce(t *testing.T, o UpOptions) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	o.Out = w
	done := make(chan error, 1)
	go func() { err := Up(ctx, o); _ = w.Close(); done <- err }()
	var said strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := r.Read(buf)
		said.Write(buf[:n])
		if strings.Contains(said.String(), "addrs:") {
			cancel()
		}
		if err != nil {
			break
		}
	}
	err := <-done
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said.String()
}

func TestUp(t *testing.T) {
	t.Parallel()
	for _, kafka := range []string{KafkaFake, KafkaApache} {
		t.Run(kafka, func(t *testing.T) {
			t.Parallel()
			ports, err := freePorts(3)
			if err != nil {
				t.Fatal(err)
			}
			o := UpOptions{
				Dir: t.TempDir(), Kafka: kafka, Topics: []Topic{{Name: "auth.events", Configs: LogAppendTime()}},
				KafkaPort: ports[0], ClickHousePort: ports[1], ClickHouseHTTPPort: ports[2],
			}
			first, second := upOnce(t, o), upOnce(t, o)
			if first != second {
				t.Errorf("the second start says\n%s\nthe first said\n%s", second, first)
			}
			for _, want := range []string{hostPort(ports[0]), hostPort(ports[1]), hostPort(ports[2]), o.Dir, "stopping"} {
				if !strings.Contains(first, want) {
					t.Errorf("no %q in:\n%s", want, first)
				}
			}
		})
	}
}

func TestUpRefuses(t *testing.T) {
	t.Parallel()
	if err := Up(t.Context(), UpOptions{Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "data folder") {
		t.Errorf("without a folder: %v", err)
	}
	_, _, err := startBroker(t.Context(), UpOptions{Dir: t.TempDir(), Kafka: "rabbit"})
	if err == nil || !strings.Contains(err.Error(), `"rabbit"`) {
		t.Errorf("an unknown broker: %v", err)
	}
}
