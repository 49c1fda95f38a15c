package quality

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/networks"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/simulate"
)

// describe tells the configuration what the people of the network would tell it.
func describe(cfg *config.Config, net simulate.Network) {
	d := &cfg.Detect
	d.DeclaredEgress, d.DeclaredServices, d.ScheduledServices = net.DeclaredEgress, net.DeclaredServices, net.ScheduledServices
	d.TokenLeeway = net.TokenLeeway
	d.ChangeWindows = []string{fmt.Sprintf("mon-fri %02d:00-%02d:00", net.ChangeFrom, net.ChangeTo)}
	d.Schedules = map[string][]string{}
	for _, s := range net.ScheduledServices {
		d.Schedules[s] = []string{"daily " + hour(net.JobFrom) + "-" + hour(net.JobTo+time.Minute)}
	}
	for _, s := range slices.Sorted(maps.Keys(net.CNs)) {
		d.ExpectedCNs = append(d.ExpectedCNs, net.CNs[s])
	}
}

// networksOf is the table of who owns which addresses, which people download.
func networksOf(net simulate.Network) (*networks.Table, error) {
	var b strings.Builder
	for _, a := range net.Internet {
		fmt.Fprintf(&b, "%s,%d,%q\n", a.Prefix, a.Number, a.Name)
	}
	return networks.Parse("the simulated internet", strings.NewReader(b.String()))
}

func hour(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
}

// declaredBy is what the configuration's networks say of certificates and regions.
func declaredBy(net simulate.Network) map[string]detect.Declared {
	d := detect.Declared{Regions: net.Regions}
	services := map[string]string{}
	for service, cn := range net.CNs {
		services[cn] = service
	}
	for _, c := range net.Certificates {
		d.Certificates = append(d.Certificates, detect.DeclaredCertificate{ID: c.ID, CN: c.CN, Service: services[c.CN],
			NotBefore: c.NotBefore.Format(time.RFC3339), NotAfter: c.NotAfter.Format(time.RFC3339)})
	}
	return map[string]detect.Declared{net.Name: d}
}
