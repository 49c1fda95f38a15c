package archtest

// layers is the table of docs/explanation/layers.md: a package imports only
// packages of a lower layer, never one of its own.
var layers = []struct {
	number   string
	packages []string
}{
	{"0 values", []string{"event", "internal/secret", "internal/metrics", "configs", "internal/published"}},
	{"1 values", []string{"detect/finding", "detect/season", "detect/anomaly", "internal/redact"}},
	{"1b journal, evidence", []string{"alert/journal", "detect/suspicion"}},
	{"1c incidents", []string{"alert/incident"}},
	{"2 language", []string{"rules", "detect/offset", "detect/memory", "detect/networks", "internal/simulate", "internal/kafkawire", "ingest/mapping", "ingest/cloudevents"}},
	{"2b windows", []string{"detect/correlate", "detect/stored", "rules/library"}},
	{"3 domain", []string{"ingest", "detect", "detect/posture", "alert", "alert/playbook"}},
	{"4 adapters", []string{
		"ingest/kafka", "ingest/http", "store", "alert/slack", "alert/journal/kafka", "alert/playbook/action/encfile", "alert/playbook/action/simulated",
		"detect/posture/check", "detect/backtest", "rules/ruletest", "rules/eval", "internal/console",
		"internal/devstack", "internal/simulate/platform",
	}},
	{"4a readers", []string{"store/past"}},
	{"4b test doubles", []string{"alert/playbook/playbooktest", "alert/slack/slacktest", "internal/devstack/devstacktest"}},
	{"5 configuration", []string{"internal/config"}},
	{"6 composition", []string{"internal/app"}},
	{"6b stage", []string{"internal/stage"}},
	{"6c test doubles", []string{"internal/stage/stagetest"}},
	{"7 rehearsal", []string{"internal/demo", "internal/torture", "internal/e2ebench", "internal/peerbench", "internal/quality"}},
	{"8 command", []string{"cmd/keysentry"}},
	{"tests", []string{"internal/archtest"}},
}

// homes names, for each third-party module, the packages that may import it.
// A module that is not listed may be imported by nobody.
var homes = map[string][]string{
	"github.com/segmentio/kafka-go":       {"ingest/kafka", "alert/journal/kafka", "internal/kafkawire"},
	"github.com/ClickHouse/clickhouse-go": {"store"},
	"github.com/ClickHouse/ch-go":         {"store"},
	"github.com/slack-go/slack":           {"alert/slack"},
	"github.com/robfig/cron":              {"detect/posture"},
	"github.com/spf13/cobra":              {"cmd/keysentry"},
	"github.com/spf13/pflag":              {"cmd/keysentry"},
	"golang.org/x/term":                   {"cmd/keysentry"},
	"github.com/go-analyze/charts":        {"alert/slack"},
	"github.com/cespare/xxhash":           {"store"},
	"go.yaml.in/yaml":                     {"rules", "internal/config", "ingest/mapping", "alert/playbook", "rules/ruletest", "internal/simulate", "detect/posture/check"},
	"github.com/prometheus/client_golang": {"internal/metrics", "*"},
	"github.com/klauspost/compress":       {"internal/kafkawire"},
	"google.golang.org/protobuf":          {"ingest/mapping"},
	"github.com/pierrec/lz4":              {"internal/kafkawire"},
	"github.com/twmb/franz-go":            {"internal/devstack"},
	"github.com/ebitengine/purego":        {"internal/devstack"},
	"filippo.io/age":                      {"alert/playbook/action/encfile"},
	"github.com/Shopify/toxiproxy":        {"internal/stage"},
	"github.com/rs/zerolog":               {"internal/stage"}, // toxiproxy's logger
	"golang.org/x/sync":                   {"*"},
	"golang.org/x/time":                   {"ingest/http"},
	"github.com/gaissmai/bart":            {"detect/networks"},
}
