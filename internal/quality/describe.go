package quality

import (
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/simulate"
)

// describe tells the configuration what the people of the network would tell it.
func describe(cfg *config.Config, net simulate.Network) {
	d := &cfg.Detect
	d.DeclaredEgress, d.DeclaredServices, d.ScheduledServices = net.DeclaredEgress, net.DeclaredServices, net.ScheduledServices
	d.TokenLeeway = net.TokenLeeway
}
