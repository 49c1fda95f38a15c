package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestMonitoringNamesMetricsThatExist: the alerting rules parse, each is complete,
// and every metric that the page names is one that the daemon exports.
func TestMonitoringNamesMetricsThatExist(t *testing.T) {
	t.Parallel()
	docs := filepath.Join("..", "..", "docs")
	page, err := os.ReadFile(filepath.Join(docs, "howto", "monitor.md"))
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile(filepath.Join(docs, "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(keysentry_[a-z_]+)` \\| ([a-z]+)").FindAllStringSubmatch(string(reference), -1) {
		exported[m[1]] = true
		if m[2] == "histogram" {
			exported[m[1]+"_bucket"], exported[m[1]+"_sum"], exported[m[1]+"_count"] = true, true, true
		}
	}
	names := regexp.MustCompile(`keysentry_[a-z_]+`).FindAllString(string(page), -1)
	if len(names) < 15 || len(exported) < 50 {
		t.Fatalf("%d names on the page, %d metrics exported: too few to be all", len(names), len(exported))
	}
	for _, name := range names {
		if !exported[name] {
			t.Errorf("monitor.md names %s, which no component exports", name)
		}
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(block))
	dec.KnownFields(true)
	if err := dec.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Groups) != 1 || len(rules.Groups[0].Rules) < 5 {
		t.Fatalf("read %+v", rules)
	}
	for _, r := range rules.Groups[0].Rules {
		if r.Alert == "" || !strings.Contains(r.Expr, "keysentry_") || r.Annotations["summary"] == "" || r.Labels["severity"] == "" ||
			strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") {
			t.Errorf("rule %+v is not complete", r)
		}
	}
}
