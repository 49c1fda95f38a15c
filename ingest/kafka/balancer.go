package kafka

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync/atomic"

	kafkago "github.com/segmentio/kafka-go"
)

// balancerName is the name of our protocol inside the group. Members that do
// not speak it are refused by the broker.
const balancerName = "keysentry-single-v1"

// userData is what a member tells the others when it joins.
type userData struct {
	// Epoch is one more than the offset of the member's took_over record in the
	// journal, whose first offset is 0; 0 for a member that never led.
	Epoch int64 `json:"epoch"`
}

// balancer gives everything to one member.
type balancer struct{ epoch *atomic.Int64 }

var _ kafkago.GroupBalancer = balancer{}

// ProtocolName implements kafkago.GroupBalancer.
func (balancer) ProtocolName() string { return balancerName }

// UserData implements kafkago.GroupBalancer.
func (b balancer) UserData() ([]byte, error) { return json.Marshal(userData{Epoch: b.epoch.Load()}) }

// AssignGroups gives the chosen member every partition of the topics it asked
// for, and the others none.
func (balancer) AssignGroups(members []kafkago.GroupMember, partitions []kafkago.Partition) kafkago.GroupMemberAssignments {
	out := kafkago.GroupMemberAssignments{}
	if len(members) == 0 {
		return out
	}
	for _, m := range members {
		out[m.ID] = map[string][]int{}
	}
	winner := slices.MinFunc(members, func(a, b kafkago.GroupMember) int {
		return cmp.Or(-cmp.Compare(epochOf(a), epochOf(b)), cmp.Compare(a.ID, b.ID))
	})
	for _, p := range partitions {
		if slices.Contains(winner.Topics, p.Topic) {
			out[winner.ID][p.Topic] = append(out[winner.ID][p.Topic], p.ID)
		}
	}
	return out
}

// epochOf reads a member's epoch; what cannot be read counts as never led.
func epochOf(m kafkago.GroupMember) int64 {
	var u userData
	if json.Unmarshal(m.UserData, &u) != nil {
		return 0
	}
	return u.Epoch
}
