package correlate

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/keysentry/keysentry/event"
)

// entry is an observation that waits for the watermark.
type entry struct {
	obs
	g    *group
	live bool
}

// bucketWidth is the part of time that is sorted at once.
const bucketWidth = event.Instant(128e6)

// waiting holds observations until the watermark passes them, in buckets of
// time, so that putting them in order costs a sort of one bucket.
type waiting struct {
	buckets map[int64][]entry
	ids     int64Heap // of buckets, the earliest first
	spare   [][]entry
	n       int
}

func (w *waiting) add(e entry) {
	id := int64(e.ts / bucketWidth)
	if e.ts < 0 {
		id--
	}
	b, ok := w.buckets[id]
	if !ok {
		heap.Push(&w.ids, id)
		if n := len(w.spare); n > 0 {
			b, w.spare = w.spare[n-1], w.spare[:n-1]
		}
	}
	w.buckets[id] = append(b, e)
	w.n++
}

// next takes out the earliest observations before limit, at most one bucket,
// unsorted; nil when there are none. The slice goes back with done.
func (w *waiting) next(limit event.Instant) []entry {
	if len(w.ids) == 0 {
		return nil
	}
	id := w.ids[0]
	if event.Instant(id)*bucketWidth >= limit {
		return nil
	}
	b := w.buckets[id]
	if event.Instant(id+1)*bucketWidth > limit {
		return w.part(id, b, limit)
	}
	heap.Pop(&w.ids)
	delete(w.buckets, id)
	w.n -= len(b)
	return b
}

// part takes out what of bucket id is before limit.
func (w *waiting) part(id int64, b []entry, limit event.Instant) []entry {
	var out []entry
	if n := len(w.spare); n > 0 {
		out, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	keep := b[:0]
	for _, e := range b {
		if e.ts < limit {
			out = append(out, e)
		} else {
			keep = append(keep, e)
		}
	}
	clear(b[len(keep):])
	w.buckets[id] = keep
	w.n -= len(out)
	if len(out) == 0 {
		w.done(out)
		return nil
	}
	return out
}

// maxSpare is how many buckets are kept for their memory: those of more than the
// default lateness.
const maxSpare = 128

// done gives the memory of a bucket back.
func (w *waiting) done(b []entry) {
	if cap(b) > 0 && len(w.spare) < maxSpare {
		clear(b)
		w.spare = append(w.spare, b[:0])
	}
}

// half is a time before which about half of the observations lie.
func (w *waiting) half() event.Instant {
	ids := slices.Sorted(slices.Values(w.ids))
	n := 0
	for _, id := range ids {
		if n += len(w.buckets[id]); n >= w.n/2 {
			return event.Instant(id+1) * bucketWidth
		}
	}
	return 0
}

// compare orders observations by ts and then by place in Kafka.
func (c *Correlator) compare(a, b *obs) int {
	if d := cmp.Compare(a.ts, b.ts); d != 0 {
		return d
	}
	if a.part != b.part {
		p, q := c.parts[a.part], c.parts[b.part]
		return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.ID, q.ID))
	}
	return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.idx, b.idx))
}

// run judges everything before limit, in order.
func (c *Correlator) run(limit event.Instant) {
	for {
		b := c.wait.next(limit)
		if b == nil {
			break
		}
		slices.SortFunc(b, func(x, y entry) int { return c.compare(&x.obs, &y.obs) })
		for i := range b {
			e := &b[i]
			if e.ts > c.cursor {
				c.settle(e.ts)
				c.cursor = e.ts
			}
			if e.g.dead {
				c.stats.Orphaned++
				continue
			}
			e.g.pending--
			c.take(e.g, &e.obs, e.live)
		}
		c.wait.done(b)
	}
	c.settle(limit)
}

// take adds an observation to its group, to be judged when all of its ts are in.
func (c *Correlator) take(g *group, o *obs, live bool) {
	g.carried = o.carried
	if g.fwd != nil {
		c.forwardAdd(g, o, live)
		return
	}
	g.add(o)
	g.ties++
	g.live = g.live || live
	c.queue(g)
}

// queue puts g among those to be judged at the cursor: inputs before users.
func (c *Correlator) queue(g *group) {
	if g.queued {
		return
	}
	g.queued = true
	c.toJudge = append(c.toJudge, g)
	for i := len(c.toJudge) - 1; i > c.judging && c.toJudge[i-1].s.order > g.s.order; i-- {
		c.toJudge[i], c.toJudge[i-1] = c.toJudge[i-1], g
	}
}

// settle judges what was taken in at the cursor, and then lets the timers before
// to run.
func (c *Correlator) settle(to event.Instant) {
	c.judgeAll()
	for len(c.timers) > 0 && c.timers[0].due < to {
		t := heap.Pop(&c.timers).(timer)
		if t.g.dead || t.g.due != t.due {
			continue
		}
		t.g.due = 0
		c.cursor = max(c.cursor, t.due)
		c.expire(t.g, t.due)
		c.judgeAll()
	}
}

func (c *Correlator) judgeAll() {
	for c.judging = 0; c.judging < len(c.toJudge); {
		g := c.toJudge[c.judging]
		c.judging++
		g.queued = false
		if !g.dead {
			c.judge(g, c.cursor)
		}
	}
	clear(c.toJudge)
	c.toJudge, c.judging = c.toJudge[:0], 0
}

// judge evaluates the window of g that ends at t.
func (c *Correlator) judge(g *group, t event.Instant) {
	g.judged = max(g.judged, t)
	if v, ok := g.w.judge(g.s, t); ok && g.s.judges(t-g.s.span) && c.certain(g, t-g.s.span, t) {
		c.satisfied(g, t, g.ties, v)
	}
	c.tell(g)
	g.ties, g.live = 0, false
	c.weigh(g)
}

// expire handles a timer of g.
func (c *Correlator) expire(g *group, due event.Instant) {
	if g.fwd != nil {
		c.forwardEnd(g)
		return
	}
	if w, ok := g.w.(*rateWindow); ok && g.s.watches() {
		c.expireRate(g, w, due)
		return
	}
	if ep := g.ep; ep != nil && !ep.closed {
		if end := ep.last + g.s.span; end > due {
			c.timer(g, end)
			return
		}
		c.end(g)
	}
}

// timer is one moment that a group waits for.
type timer struct {
	due event.Instant
	g   *group
}

// timer asks for expire at due, once everything at due was judged.
func (c *Correlator) timer(g *group, due event.Instant) {
	if g.due != 0 && g.fwd == nil {
		return // expire looks again
	}
	g.due = due
	heap.Push(&c.timers, timer{due, g})
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	if h[i].g.s != h[j].g.s {
		return h[i].g.s.order < h[j].g.s.order
	}
	return h[i].g.key < h[j].g.key
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return t
}

type int64Heap []int64

func (h int64Heap) Len() int           { return len(h) }
func (h int64Heap) Less(i, j int) bool { return h[i] < h[j] }
func (h int64Heap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *int64Heap) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *int64Heap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// fixTimers restores the heap after timers were appended as they came.
func (c *Correlator) fixTimers() { heap.Init(&c.timers) }
