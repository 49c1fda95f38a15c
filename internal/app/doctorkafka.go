package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/ingest/kafka"
)

// kafka looks at the brokers, the topics and who may do what with them.
func (d *doctor) kafka(ctx context.Context) {
	client, err := openKafka(d.cfg, d.getenv)
	if err != nil {
		d.say(DoctorFail, "kafka", "%v", err)
		return
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		d.say(DoctorFail, "kafka", "%v", err)
		return
	}
	d.say(DoctorGood, "kafka", "answers at %s", strings.Join(d.cfg.Kafka.Brokers, ", "))
	infos, err := client.CheckTopics(ctx, topicNames(d.cfg.Ingest.Config))
	if err != nil {
		d.say(DoctorFail, "kafka topics", "%v", err)
		return
	}
	faults := kafka.CheckInputs(infos, (&App{cfg: d.cfg}).imported)
	for _, f := range faults {
		d.say(DoctorFail, "kafka topics", "%v", f)
	}
	if len(faults) == 0 {
		d.say(DoctorGood, "kafka topics", "%d input topics keep their promises", len(infos))
	}
	for _, t := range infos {
		d.retention(t)
	}
	d.ownTopics(ctx, client, infos)
	d.rights(ctx, client)
	d.writers(ctx, client)
}

// retention compares how long a topic keeps its records with how far back they
// are needed: by the windows of the rules after a restart, and by storage after
// ClickHouse was away.
func (d *doctor) retention(t kafka.TopicInfo) {
	ms, ok := t.RetentionMS()
	if !t.Exists || !ok || (&App{cfg: d.cfg}).imported(t.Name) {
		return
	}
	const check = "retention"
	keeps := time.Duration(ms) * time.Millisecond
	set := func(least time.Duration) string {
		return fmt.Sprintf("set it with: kafka-configs.sh --bootstrap-server HOST:PORT --alter --topic %s --add-config retention.ms=%d", t.Name, max(week, 2*least).Milliseconds())
	}
	switch {
	case ms < 0:
		d.say(DoctorGood, check, "%s keeps records without end", t.Name)
	case keeps < d.reach:
		d.say(DoctorFail, check, "%s keeps records for %v, but the rules look back %v: without ClickHouse their windows cannot be filled after a restart; %s", t.Name, keeps, d.reach, set(d.reach))
	case keeps < d.reach+outage:
		d.say(DoctorWarn, check, "%s keeps records for %v and the rules look back %v, which leaves less than %v for an outage of ClickHouse: what it misses in a longer one is lost; %s", t.Name, keeps, d.reach, outage, set(d.reach+outage))
	default:
		d.say(DoctorGood, check, "%s keeps records for %v; the rules look back %v, and ClickHouse may be away for the rest", t.Name, keeps, d.reach)
	}
	if size := t.Settings["retention.bytes"]; size != "" && size != "-1" {
		d.say(DoctorWarn, check, "%s also deletes by size (retention.bytes=%s per partition), which a flood of events reaches sooner than the time", t.Name, size)
	}
}

// outage is how long ClickHouse should be able to be away beside the windows.
const (
	outage = 24 * time.Hour
	week   = 7 * 24 * time.Hour
)

func (d *doctor) ownTopics(ctx context.Context, client *kafka.Client, inputs []kafka.TopicInfo) {
	missing, faults, err := client.CheckOwnTopics(ctx)
	switch {
	case err != nil:
		d.say(DoctorFail, "own topics", "%v", err)
		return
	case len(faults) > 0:
		d.say(DoctorFail, "own topics", "%v", errors.Join(faults...))
	case len(missing) > 0:
		d.say(DoctorWarn, "own topics", "%s will be created by the first run; it needs the right to create topics", strings.Join(missing, ", "))
	default:
		d.say(DoctorGood, "own topics", "journal, control, quarantine and verdicts are set up as they must be")
	}
	d.verdictRetention(ctx, client, inputs)
	infos, err := client.CheckTopics(ctx, []string{d.cfg.Kafka.Topics.Journal})
	if err != nil || !infos[0].Exists {
		return
	}
	j := infos[0]
	const check = "journal copies"
	switch {
	case j.Replicas < 2:
		d.say(DoctorWarn, check, "%s has one copy: losing its broker loses the history; make it with kafka.replication_factor: 3 on three brokers, or reassign it with kafka-reassign-partitions.sh", j.Name)
	case j.Settings["min.insync.replicas"] == "1":
		d.say(DoctorWarn, check, "%s counts a write as safe when one copy has it; set it with: kafka-configs.sh --bootstrap-server HOST:PORT --alter --topic %s --add-config min.insync.replicas=2", j.Name, j.Name)
	default:
		d.say(DoctorGood, check, "%d copies, %s of them before a write counts", j.Replicas, j.Settings["min.insync.replicas"])
	}
}

// verdictRetention says when causes are forgotten before the events that storage
// may have to read again.
func (d *doctor) verdictRetention(ctx context.Context, client *kafka.Client, inputs []kafka.TopicInfo) {
	infos, err := client.CheckTopics(ctx, []string{d.cfg.Kafka.Topics.Verdicts})
	if err != nil || !infos[0].Exists {
		return // said already
	}
	kept, ok := infos[0].RetentionMS()
	if !ok || kept < 0 {
		return
	}
	for _, t := range inputs {
		if ms, ok := t.RetentionMS(); ok && (ms < 0 || ms > kept) {
			d.say(DoctorWarn, "own topics", "%s keeps verdicts for %v, and %s keeps events for longer: of an outage of ClickHouse that lasts longer than that, causes would be decided anew; "+
				"raise retention.ms of %s to that of the events, if such an outage has to be survived", infos[0].Name, time.Duration(kept)*time.Millisecond, t.Name, infos[0].Name)
			return
		}
	}
}

// rights: what this user lacks.
func (d *doctor) rights(ctx context.Context, client *kafka.Client) {
	written := func(topic string) bool {
		return slices.ContainsFunc(d.cfg.Ingest.HTTP.Sources, func(s httpingest.SourceConfig) bool { return s.Topic == topic })
	}
	missing, err := client.MissingRights(ctx, topicNames(d.cfg.Ingest.Config), written)
	for _, command := range missing {
		d.say(DoctorFail, "kafka rights", "this user lacks a right; grant it with: %s", command)
	}
	switch {
	case err != nil:
		d.say(DoctorFail, "kafka rights", "%v", err)
	case len(missing) == 0:
		d.say(DoctorGood, "kafka rights", "this user may do what the daemon does")
	}
}

// writers: who else may write to the topics and join the group.
func (d *doctor) writers(ctx context.Context, client *kafka.Client) {
	const check = "kafka access"
	group, err := client.WhoMayJoin(ctx)
	switch {
	case errors.Is(err, kafka.ErrNoAuthorizer):
		d.say(DoctorWarn, check, "%v; trust in what a topic says, and in the journal, rests on the network alone until an authorizer is set (authorizer.class.name)", err)
		return
	case err != nil:
		d.say(DoctorWarn, check, "who else may write cannot be listed: %v; grant this user Describe on the cluster with: kafka-acls.sh --bootstrap-server HOST:PORT --add --allow-principal %s --cluster --operation Describe", err, named(client.Principal()))
		return
	}
	d.exclusive(group, client.Principal(), "consumer group "+d.cfg.Kafka.Group.ID, "join", "take the partitions and move the positions", "--group "+d.cfg.Kafka.Group.ID+" --operation Read")
	own := client.OwnTopics()
	for _, topic := range slices.Concat(own, topicNames(d.cfg.Ingest.Config)) {
		access, err := client.WhoMayWrite(ctx, topic)
		switch {
		case err != nil:
			d.say(DoctorWarn, check, "%s: %v", topic, err)
		case slices.Contains(own, topic):
			d.exclusive(access, client.Principal(), "topic "+topic, "write to", "put false records there", "--topic "+topic+" --operation Write")
		case !access.Ruled:
			d.say(DoctorWarn, check, "no rule names topic %s: nobody but super users may write to it, or, with allow.everyone.if.no.acl.found, anyone", topic)
		default:
			d.say(DoctorGood, check, "topic %s (origin %s) is written by %s", topic, d.origin(topic), somebody(access.Principals))
		}
	}
}

// exclusive holds a resource of our own to nobody else being allowed. Without our
// own name (client certificates), one principal is taken for us.
func (d *doctor) exclusive(a kafka.Access, self, what, verb, harm, rule string) {
	const check = "kafka access"
	others := slices.DeleteFunc(slices.Clone(a.Principals), func(p string) bool { return p == self })
	switch {
	case !a.Ruled:
		d.say(DoctorWarn, check, "no rule names %s: nobody but super users may %s it, or, with allow.everyone.if.no.acl.found, anyone", what, verb)
	case self == "" && len(others) > 0 && !slices.Contains(others, "User:*"):
		d.say(DoctorWarn, check, "%s may %s %s; see that this is the daemons alone, whose names under client certificates are not known here: others could %s", somebody(others), verb, what, harm)
	case len(others) > 0:
		d.say(DoctorFail, check, "%s may %s %s and could %s; take it away with: kafka-acls.sh --bootstrap-server HOST:PORT --remove --allow-principal %s %s (or narrow the rule with a prefix or wildcard that gives it)",
			somebody(others), verb, what, harm, others[0], rule)
	default:
		d.say(DoctorGood, check, "nobody else may %s %s", verb, what)
	}
}

func (d *doctor) origin(topic string) string {
	i := slices.IndexFunc(d.cfg.Ingest.Topics, func(t ingest.TopicConfig) bool { return t.Name == topic })
	return d.cfg.Ingest.Topics[i].Origin.String()
}

func named(principal string) string {
	if principal == "" {
		return "User:NAME"
	}
	return principal
}

func somebody(principals []string) string {
	if len(principals) == 0 {
		return "super users only"
	}
	return strings.Join(principals, ", ")
}
