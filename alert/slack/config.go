package slack

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config is how to reach a workspace.
type Config struct {
	// Token is the bot token (xoxb-). Without one there is no Slack.
	Token secret.Ref `yaml:"token"`
	// SigningSecret proves that clicks come from Slack; without it clicks are not
	// taken.
	SigningSecret secret.Ref `yaml:"signing_secret"`
	Channels      Channels   `yaml:"channels"`
	// TeamID and AppID, where given, must be those of every click.
	TeamID string `yaml:"team_id"`
	AppID  string `yaml:"app_id"`
	// APIURL replaces https://slack.com/api/.
	APIURL string `yaml:"api_url"`
	// Timeout bounds one call of the Web API.
	Timeout time.Duration `yaml:"timeout"`
}

// Channels are channel ids (C0123ABCD) per severity. An empty ticket channel is
// the page channel; an empty digest channel means that digests are not sent.
type Channels struct {
	Page   string `yaml:"page"`   // channel id for what must be looked at now
	Ticket string `yaml:"ticket"` // channel id for what can wait for the day
	Digest string `yaml:"digest"` // channel id for summaries
}

// DefaultConfig names no workspace.
func DefaultConfig() Config {
	return Config{APIURL: "https://slack.com/api/", Timeout: 10 * time.Second}
}

// Enabled reports whether Slack is configured at all.
func (c Config) Enabled() bool { return !c.Token.IsZero() }

// Routes are the channels as alert wants them.
func (c Config) Routes() alert.Routes {
	ticket := c.Channels.Ticket
	if ticket == "" {
		ticket = c.Channels.Page
	}
	return alert.Routes{finding.Page: c.Channels.Page, finding.Ticket: ticket, finding.Digest: c.Channels.Digest}
}

var channelID = regexp.MustCompile(`^[CGD][A-Z0-9]{2,30}$`)

// ValidChannel reports whether a text can be a channel's id.
func ValidChannel(id string) bool { return channelID.MatchString(id) }

// Validate reports every fault by its path.
func (c Config) Validate() []error {
	if !c.Enabled() {
		return nil
	}
	var errs []error
	if err := c.Token.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("token: %w", err))
	}
	if !c.SigningSecret.IsZero() {
		if err := c.SigningSecret.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("signing_secret: %w", err))
		}
	}
	if c.Channels.Page == "" {
		errs = append(errs, errors.New("channels.page: give the id of the channel for pages, as C0123ABCD"))
	}
	for _, ch := range []struct{ path, id string }{
		{"channels.page", c.Channels.Page}, {"channels.ticket", c.Channels.Ticket}, {"channels.digest", c.Channels.Digest},
	} {
		if ch.id != "" && !channelID.MatchString(ch.id) {
			errs = append(errs, fmt.Errorf("%s: %q is not a channel id (C0123ABCD; names do not work for edits and look-ups)", ch.path, ch.id))
		}
	}
	u, err := url.Parse(c.APIURL)
	if err != nil || u.Host == "" || !strings.HasSuffix(c.APIURL, "/") || (u.Scheme != "https" && u.Scheme != "http") {
		errs = append(errs, errors.New("api_url: must be an http(s) address that ends with /"))
	}
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("timeout: must be more than 0"))
	}
	return errs
}
