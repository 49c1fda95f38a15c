package quality

import (
	"fmt"
	"maps"
	"slices"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/simulate"
)

// describe tells the configuration what the people of the network would tell it.
func describe(cfg *config.Config, net simulate.Network) {
	d := &cfg.Detect
	d.DeclaredEgress, d.DeclaredServices, d.ScheduledServices = net.DeclaredEgress, net.DeclaredServices, net.ScheduledServices
	d.TokenLeeway = net.TokenLeeway
	d.ChangeWindows = []string{fmt.Sprintf("mon-fri %02d:00-%02d:00", net.ChangeFrom, net.ChangeTo)}
	for _, s := range slices.Sorted(maps.Keys(net.CNs)) {
		d.ExpectedCNs = append(d.ExpectedCNs, net.CNs[s])
	}
}
