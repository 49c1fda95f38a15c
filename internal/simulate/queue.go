package simulate

import "github.com/keysentry/keysentry/event"

// queue is a heap of what is to come, by time and then by the order in which it
// was put in.
type queue[T any] struct {
	items []queued[T]
	n     uint64
}

type queued[T any] struct {
	at event.Instant
	n  uint64
	v  T
}

func (q *queued[T]) before(o *queued[T]) bool { return q.at < o.at || q.at == o.at && q.n < o.n }

// next is when the first item is due, or the end of time.
func (q *queue[T]) next() event.Instant {
	if len(q.items) == 0 {
		return 1<<63 - 1
	}
	return q.items[0].at
}

func (q *queue[T]) push(at event.Instant, v T) {
	q.n++
	q.items = append(q.items, queued[T]{at, q.n, v})
	h := q.items
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].before(&h[i]) {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

// pop takes the first item; the queue is not empty.
func (q *queue[T]) pop() T {
	h := q.items
	first := h[0].v
	last := len(h) - 1
	h[0], h[last] = h[last], queued[T]{}
	h = h[:last]
	for i := 0; ; {
		small := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if h[c].before(&h[small]) {
				small = c
			}
		}
		if small == i {
			break
		}
		h[i], h[small] = h[small], h[i]
		i = small
	}
	q.items = h
	return first
}
