package kafka

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// allVerdicts reads to the end.
func allVerdicts(t *testing.T, v *Verdicts, p event.Partition, pos int64) (out []string, next int64) {
	t.Helper()
	for {
		records, next, end, err := v.Read(t.Context(), p, pos)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			out = append(out, string(r))
		}
		if end {
			return out, next
		}
		if next <= pos && len(records) == 0 {
			t.Fatalf("no progress at %d", pos)
		}
		pos = next
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		for _, partitions := range []int32{1, 5} {
			t.Run(strconv.Itoa(int(partitions)), func(t *testing.T) {
				topic := devstacktest.CreateTopic(t, addr, partitions, devstack.LogAppendTime())
				v := NewVerdicts(testClient(t, addr, func(c *Config) { c.Topics.Verdicts = topic }))
				a, b := event.Partition{Topic: "auth.events", ID: 0}, event.Partition{Topic: "auth.events", ID: 1}
				write := func(p event.Partition, records ...string) {
					t.Helper()
					list := make([][]byte, len(records))
					for i, r := range records {
						list[i] = []byte(r)
					}
					if err := v.Write(t.Context(), p, list); err != nil {
						t.Fatal(err)
					}
				}
				if got, _ := allVerdicts(t, v, a, 0); got != nil {
					t.Errorf("nothing was written: got %q", got)
				}
				big := strings.Repeat("x", 300<<10) // more than one read, and one batch
				write(a, "a1", "a2")
				write(b, "b1")
				write(a, big+"3", big+"4", big+"5")
				got, next := allVerdicts(t, v, a, 0)
				if want := []string{"a1", "a2", big + "3", big + "4", big + "5"}; !slices.Equal(got, want) {
					t.Errorf("read %d records", len(got))
				}
				if got, _ := allVerdicts(t, v, b, 0); !slices.Equal(got, []string{"b1"}) {
					t.Errorf("read %q", got)
				}
				write(a, "a6")
				if got, _ := allVerdicts(t, v, a, next); !slices.Equal(got, []string{"a6"}) {
					t.Errorf("read on: %q", got)
				}
				if got, end := allVerdicts(t, v, a, next+100); got != nil || end > next+2 {
					t.Errorf("beyond the end: %q, next %d", got, end)
				}

				now := event.At(time.Now())
				for _, tt := range []struct {
					at   time.Duration
					want []string
				}{{-time.Hour, []string{"a1", "a2", big + "3", big + "4", big + "5", "a6"}}, {time.Hour, nil}} {
					pos, err := v.Begin(t.Context(), a, now.Add(tt.at))
					if err != nil {
						t.Fatal(err)
					}
					if got, _ := allVerdicts(t, v, a, pos); !slices.Equal(got, tt.want) {
						t.Errorf("from %v on: %d records, want %d", tt.at, len(got), len(tt.want))
					}
				}
				place, err := v.place(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				deleteBelow(t, producer(t, addr), topic, place, next)
				if got, _ := allVerdicts(t, v, a, 0); !slices.Equal(got, []string{"a6"}) {
					t.Errorf("after retention: %q", got)
				}
			})
		}
	})
}

// deleteBelow removes what lies below an offset, as retention does.
func deleteBelow(t *testing.T, c *kgo.Client, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = partition, offset
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, part)
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if code := res.Topics[0].Partitions[0].ErrorCode; code != 0 {
		t.Fatalf("delete records: error code %d", code)
	}
}
