package devstack

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupPeer is a connection that speaks the group protocol and nothing more, so
// that it can break off anywhere.
type groupPeer struct {
	net.Conn
	t *testing.T
}

func dialGroup(t *testing.T, addr string) *groupPeer {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &groupPeer{c, t}
}

func (p *groupPeer) send(req kmsg.Request) {
	p.t.Helper()
	if _, err := p.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *groupPeer) ask(req kmsg.Request) kmsg.Response {
	p.t.Helper()
	p.send(req)
	var size [4]byte
	if _, err := io.ReadFull(p, size[:]); err != nil {
		p.t.Fatalf("no answer to %s: %v", kmsg.NameForKey(req.Key()), err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(p, b); err != nil {
		p.t.Fatal(err)
	}
	res := req.ResponseKind()
	if err := res.ReadFrom(b[4:]); err != nil { // after the correlation id
		p.t.Fatal(err)
	}
	return res
}

// joinRequest is of the version that kafka-go speaks: a member without an id is in
// the group at once.
func joinRequest(member string, session time.Duration) *kmsg.JoinGroupRequest {
	j := kmsg.NewPtrJoinGroupRequest()
	j.Version, j.Group, j.MemberID, j.ProtocolType = 2, "g", member, "consumer"
	j.SessionTimeoutMillis, j.RebalanceTimeoutMillis = int32(session.Milliseconds()), 60_000
	j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p"}}
	return j
}

func (p *groupPeer) join(member string) *kmsg.JoinGroupResponse {
	p.t.Helper()
	res := p.ask(joinRequest(member, 30*time.Second)).(*kmsg.JoinGroupResponse)
	if res.ErrorCode != 0 {
		p.t.Fatalf("join: error %d", res.ErrorCode)
	}
	return res
}

func (p *groupPeer) sync(g *kmsg.JoinGroupResponse) {
	p.t.Helper()
	s := kmsg.NewPtrSyncGroupRequest()
	s.Group, s.Generation, s.MemberID = "g", g.Generation, g.MemberID
	if res := p.ask(s).(*kmsg.SyncGroupResponse); res.ErrorCode != 0 {
		p.t.Fatalf("sync: error %d", res.ErrorCode)
	}
}

// Members that are killed while they wait to be let in are out of the group after
// their session, as on Apache Kafka, and a rebalance does not wait for them longer.
func TestFakeKafkaForgetsMembersThatDiedJoining(t *testing.T) {
	t.Parallel()
	f := startFake(t, FakeOptions{})
	const dying = 16
	came := make(chan struct{}, dying+8)
	f.Cluster().ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		came <- struct{}{}
		return nil, nil, false
	})
	living := dialGroup(t, f.Addr())
	first := living.join("")
	living.sync(first)
	<-came
	for range dying {
		p := dialGroup(t, f.Addr())
		p.send(joinRequest("", 6*time.Second)) // the shortest that a broker takes
		<-came
		_ = p.Close()
	}
	all := living.join(first.MemberID)
	if len(all.Members) != dying+1 {
		t.Fatalf("%d members, want all that asked", len(all.Members))
	}
	living.sync(all)
	// The leader that joins again makes a rebalance, which waits for the dead.
	if alone := living.join(first.MemberID); len(alone.Members) != 1 {
		t.Errorf("%d members, want the living one alone", len(alone.Members))
	}
}
