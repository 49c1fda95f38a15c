package stored

import (
	"context"
	"fmt"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Events reads whole events, as the daemon had them, that satisfy a condition:
// tail is what follows FROM events FINAL, with server-side parameters.
func Events(ctx context.Context, store Querier, tail string, params map[string]string) ([]event.Event, error) {
	cols := []string{"toUnixTimestamp64Nano(ts)", "topic", "`partition`", "`offset`", "idx", "present", "cause", "cause_confidence", "cause_grounds", "rediagnosed"}
	var fields []event.Field
	for _, f := range append(event.MessageFields(), event.FieldOrigin, event.FieldObservedAt) {
		fields = append(fields, f)
		cols = append(cols, columnOf(f))
	}
	rows, err := store.Query(ctx, "SELECT "+strings.Join(cols, ", ")+"\nFROM events FINAL\n"+tail, params)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []event.Event
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return nil, err
		}
		var e event.Event
		c := cells(vals)
		e.TS = event.Instant(take[int64](&c))
		e.Ref = event.Ref{Topic: take[string](&c), Partition: take[int32](&c), Offset: take[int64](&c), Idx: take[int32](&c)}
		e.Present = event.FieldSet(take[uint64](&c))
		e.Cause, _ = event.ParseCause(take[string](&c))
		e.CauseConfidence = take[float32](&c)
		e.CauseGrounds, _ = event.ParseGrounds(take[string](&c))
		e.Rediagnosed = take[bool](&c)
		for _, f := range fields {
			set(&e, f, &c)
		}
		if len(c) != 0 {
			return nil, fmt.Errorf("unexpected types in the answer: %T", vals)
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// ByRef is the condition for the event at one place in Kafka.
func ByRef(ref event.Ref) (tail string, params map[string]string) {
	return "WHERE topic = {topic:String} AND `partition` = {partition:Int32} AND `offset` = {offset:Int64} AND idx = {idx:Int32}",
		map[string]string{"topic": ref.Topic, "partition": fmt.Sprint(ref.Partition), "offset": fmt.Sprint(ref.Offset), "idx": fmt.Sprint(ref.Idx)}
}

// ByID is the condition for the events that a producer gave an id, the newest
// first.
func ByID(id string) (tail string, params map[string]string) {
	return "WHERE id = {id:String} ORDER BY observed_at DESC LIMIT 10", map[string]string{"id": id}
}
