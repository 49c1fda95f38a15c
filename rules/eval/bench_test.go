package eval

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/keysentry/keysentry/rules"
)

// distinctUsers counts users per key, with a bar that is never reached.
const distinctUsers = `title: Issued
name: issued
logsource: {product: x}
detection:
  sel: {type: auth_token.issued}
  condition: sel
---
title: Many users
name: many
correlation:
  type: value_count
  rules: [issued]
  group-by: [key_id]
  timespan: 10m
  condition: {gte: 1000000, field: user_id}
`

// BenchmarkRun is the whole of a run from bytes: cutting, matching, reading the
// time, correlating.
func BenchmarkRun(b *testing.B) {
	var in bytes.Buffer
	const n = 200_000
	for i := range n {
		fmt.Fprintf(&in, `{"id":"evt-%08d","type":"auth_token.issued","time":"2026-01-05T%02d:%02d:%02d.123456Z","network":"prod-eu","region":"eu-1","service":"chat-backend","host":"mint-%02d.internal","boot":"b7f3a9","seq":%d,"user_id":"user-%06d","key_id":"k1_9f8e7d6c5b%02d","token_id":"t1_%016x","endpoint":"/api/v4/authentication/token","method":"POST","status":200,"source_ip":"10.1.%d.%d","user_agent":"backend/1.%d"}`+"\n",
			i, 10+i/3600%10, i/60%60, i%60, i%40, i, i*7919%1000000, i%30, i, i/256%256, i%256, i%10)
	}
	for name, rule := range map[string]string{"value_count/30_groups/10m": distinctUsers,
		"no_match": "title: t\nlogsource: {product: x}\ndetection: {s: {host|contains: external}, condition: s}\n"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(in.Len()))
			for b.Loop() {
				opt := Options{Rules: []rules.File{{Name: "r.yml", Data: []byte(rule)}}}
				if s, err := Run(context.Background(), opt, bytes.NewReader(in.Bytes()), io.Discard); err != nil || s.Events != n {
					b.Fatal(s, err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "events/s")
		})
	}
}
