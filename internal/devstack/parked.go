package devstack

import (
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Parked requests of consumer groups on the fake Kafka.
//
// A broker parks a JoinGroup until every member has joined, and a SyncGroup until
// the leader has assigned. When the process that asked is killed meanwhile, a
// broker counts its member in all the same, and lets its session run out. kfake
// starts the session when it has handed the answer over, and whether it can to a
// connection that has ended is chance: its select finds both the room for the
// answer and the end. Each second member killed so has no session and stays for
// ever. Every rebalance then waits for it up to the rebalance time, which begins
// anew with each join and leave; and a living member that waits for longer than
// its own session is put out, without an answer.
//
// So the filter tells kfake the end of a connection only after the answer to what
// is parked on it.

// parks reports whether a broker may answer a request much later than it came.
func parks(k kmsg.Key) bool { return k == kmsg.JoinGroup || k == kmsg.SyncGroup }

// parked holds the end of one connection back.
type parked struct {
	mu     sync.Mutex
	free   sync.Cond // of mu
	count  int       // requests without an answer
	closed bool      // kfake itself has ended the connection
}

func newParked() *parked {
	p := &parked{}
	p.free.L = &p.mu
	return p
}

// add notes a request (1) or its answer (-1).
func (p *parked) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count += n
	p.free.Broadcast()
}

// close lets go, whatever is parked.
func (p *parked) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.free.Broadcast()
}

// maxParked bounds the wait: to a member that was taken out of its group while it
// waited, kfake never answers.
const maxParked = 5 * time.Minute

// wait returns when nothing is parked, or kfake has ended the connection.
func (p *parked) wait() {
	defer time.AfterFunc(maxParked, p.close).Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.count > 0 && !p.closed {
		p.free.Wait()
	}
}
