package app_test

import (
	"fmt"
	"time"

	"github.com/keysentry/keysentry/ingest/kafka"
)

// refusal is a mint that was refused to a source.
func refusal(source string, i int, at time.Time) kafka.Message {
	return kafka.Message{Key: []byte(source), Value: fmt.Appendf(nil,
		`{"id":"refused-%s-%d","type":"auth_token.denied","time":%q,"network":"n1","host":"gw-1","source_ip":%q,"status":401,"reason":"invalid server key"}`,
		source, i, at.UTC().Format(time.RFC3339Nano), source)}
}

// refusals are n of them, as many as make a spike when n is 30 or more.
func refusals(source string, n int) []kafka.Message {
	out := make([]kafka.Message, n)
	for i := range out {
		out[i] = refusal(source, i, time.Now())
	}
	return out
}

// request is an ordinary call that nobody has to look at.
func request(i int, at time.Time) kafka.Message {
	return kafka.Message{Key: fmt.Appendf(nil, "user-%d", i), Value: fmt.Appendf(nil,
		`{"id":"call-%d","type":"request.allowed","time":%q,"network":"n1","host":"gw-1","user_id":"user-%d","endpoint":"/api/v3/posts","status":200}`,
		i, at.UTC().Format(time.RFC3339Nano), i)}
}

// requests are n of them, the first with the given number.
func requests(first, n int) []kafka.Message {
	out := make([]kafka.Message, n)
	for i := range out {
		out[i] = request(first+i, time.Now())
	}
	return out
}
