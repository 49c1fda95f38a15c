package redact

import (
	"slices"
	"strings"
)

// prefix is how a vendor's credentials begin, and how much must follow for it to be
// one.
type prefix struct {
	vendor, text string
	kind         Kind
	tail         int    // characters of the run after the prefix, at least
	solid        int    // of them, letters and digits right after the prefix
	only         uint8  // classes of those; 0: any letter or digit
	form         tailIs // what else holds of them
}

// tailIs is a form of the solid characters.
type tailIs uint8

const (
	anyTail  tailIs = iota
	exactHex        // exactly so many, lower case hexadecimal, at the start of a run
	exact           // exactly so many
)

// prefixes are those that vendors publish for their credentials, in their
// documentation or for secret scanning. A prefix that words may hold (sk-, hf_)
// wants many letters and digits without a break after it, which words have not.
var prefixes = [...]prefix{
	{vendor: "AWS access key", text: "AKIA", kind: AWSKey, tail: 16, solid: 16, only: upper | digit, form: exact},
	{vendor: "AWS temporary key", text: "ASIA", kind: AWSKey, tail: 16, solid: 16, only: upper | digit, form: exact},
	{vendor: "AWS bearer key", text: "ABIA", kind: AWSKey, tail: 16, solid: 16, only: upper | digit, form: exact},
	{vendor: "AWS context key", text: "ACCA", kind: AWSKey, tail: 16, solid: 16, only: upper | digit, form: exact},
	{vendor: "AWS session token", text: "IQoJb3JpZ2lu", kind: AWSKey, tail: 4},
	{vendor: "AWS session token", text: "FwoGZXIvYXdz", kind: AWSKey, tail: 4},
	{vendor: "1Password", text: "ops_eyJ", kind: Token, tail: 10},
	{vendor: "age", text: "AGE-SECRET-KEY-1", kind: Token, tail: 10},
	{vendor: "Alibaba Cloud", text: "LTAI", kind: Token, tail: 16, solid: 16},
	{vendor: "Anthropic", text: "sk-ant-", kind: Token, tail: 10},
	{vendor: "Artifactory", text: "AKCp", kind: Token, tail: 60, solid: 60},
	{vendor: "Artifactory", text: "cmVmdGtu", kind: Token, tail: 40, solid: 40},
	{vendor: "Atlassian", text: "ATATT3", kind: Token, tail: 20},
	{vendor: "Atlassian", text: "ATCTT3", kind: Token, tail: 20},
	{vendor: "Bitbucket", text: "ATBB", kind: Token, tail: 20, solid: 20},
	{vendor: "Brevo", text: "xkeysib-", kind: Token, tail: 20},
	{vendor: "Buildkite", text: "bkua_", kind: Token, tail: 20},
	{vendor: "CircleCI", text: "CCIPAT_", kind: Token, tail: 20},
	{vendor: "Contentful", text: "CFPAT-", kind: Token, tail: 20},
	{vendor: "Databricks", text: "dapi", kind: Token, tail: 32, solid: 32, form: exactHex},
	{vendor: "DigitalOcean", text: "dop_v1_", kind: Token, tail: 10},
	{vendor: "DigitalOcean", text: "doo_v1_", kind: Token, tail: 10},
	{vendor: "DigitalOcean", text: "dor_v1_", kind: Token, tail: 10},
	{vendor: "Docker", text: "dckr_pat_", kind: Token, tail: 10},
	{vendor: "Docker", text: "dckr_oat_", kind: Token, tail: 10},
	{vendor: "Figma", text: "figd_", kind: Token, tail: 20},
	{vendor: "Fly.io", text: "fm2_", kind: Token, tail: 40, solid: 20},
	{vendor: "GitHub", text: "ghp_", kind: Token, tail: 12, solid: 12},
	{vendor: "GitHub", text: "gho_", kind: Token, tail: 12, solid: 12},
	{vendor: "GitHub", text: "ghu_", kind: Token, tail: 12, solid: 12},
	{vendor: "GitHub", text: "ghs_", kind: Token, tail: 12, solid: 12},
	{vendor: "GitHub", text: "ghr_", kind: Token, tail: 12, solid: 12},
	{vendor: "GitHub", text: "github_pat_", kind: Token, tail: 10},
	{vendor: "GitLab", text: "glpat-", kind: Token, tail: 10},
	{vendor: "GitLab deploy", text: "gldt-", kind: Token, tail: 12},
	{vendor: "GitLab trigger", text: "glptt-", kind: Token, tail: 12},
	{vendor: "GitLab runner", text: "glrt-", kind: Token, tail: 12},
	{vendor: "GitLab CI build", text: "glcbt-", kind: Token, tail: 12},
	{vendor: "GitLab OAuth", text: "gloas-", kind: Token, tail: 12},
	{vendor: "GitLab SCIM", text: "glsoat-", kind: Token, tail: 12},
	{vendor: "GitLab feed", text: "glft-", kind: Token, tail: 12},
	{vendor: "GitLab mail", text: "glimt-", kind: Token, tail: 12},
	{vendor: "GitLab agent", text: "glagent-", kind: Token, tail: 12},
	{vendor: "Google API key", text: "AIza", kind: Token, tail: 20},
	{vendor: "Google OAuth client", text: "GOCSPX-", kind: Token, tail: 12},
	{vendor: "Grafana", text: "glsa_", kind: Token, tail: 12, solid: 12},
	{vendor: "Grafana Cloud", text: "glc_eyJ", kind: Token, tail: 12},
	{vendor: "Grafana, before 9", text: "eyJrIjoi", kind: Token, tail: 20},
	{vendor: "Groq", text: "gsk_", kind: Token, tail: 32, solid: 32},
	{vendor: "Heroku", text: "HRKU-", kind: Token, tail: 20},
	{vendor: "Hugging Face", text: "hf_", kind: Token, tail: 30, solid: 30},
	{vendor: "Linear", text: "lin_api_", kind: Token, tail: 12, solid: 12},
	{vendor: "Linear", text: "lin_oauth_", kind: Token, tail: 12, solid: 12},
	{vendor: "Mailgun", text: "key-", kind: Token, tail: 32, solid: 32, form: exactHex},
	{vendor: "Netlify", text: "nfp_", kind: Token, tail: 30, solid: 30},
	{vendor: "New Relic", text: "NRAK-", kind: Token, tail: 20},
	{vendor: "New Relic", text: "NRII-", kind: Token, tail: 20},
	{vendor: "New Relic", text: "NRJS-", kind: Token, tail: 16},
	{vendor: "Notion", text: "secret_", kind: Token, tail: 40, solid: 40},
	{vendor: "Notion", text: "ntn_", kind: Token, tail: 30, solid: 30},
	{vendor: "npm", text: "npm_", kind: Token, tail: 24, solid: 24},
	{vendor: "OpenAI", text: "sk-proj-", kind: Token, tail: 20},
	{vendor: "OpenAI", text: "sk-svcacct-", kind: Token, tail: 20},
	{vendor: "OpenAI", text: "sk-admin-", kind: Token, tail: 20},
	{vendor: "OpenAI and others", text: "sk-", kind: Token, tail: 32, solid: 32},
	{vendor: "OpenRouter", text: "sk-or-v1-", kind: Token, tail: 20},
	{vendor: "Perplexity", text: "pplx-", kind: Token, tail: 30, solid: 30},
	{vendor: "PlanetScale", text: "pscale_tkn_", kind: Token, tail: 12},
	{vendor: "PlanetScale", text: "pscale_pw_", kind: Token, tail: 12},
	{vendor: "PlanetScale", text: "pscale_oauth_", kind: Token, tail: 12},
	{vendor: "Postman", text: "PMAK-", kind: Token, tail: 20, solid: 20},
	{vendor: "Pulumi", text: "pul-", kind: Token, tail: 40, solid: 40},
	{vendor: "PyPI", text: "pypi-AgE", kind: Token, tail: 12},
	{vendor: "Replicate", text: "r8_", kind: Token, tail: 30, solid: 30},
	{vendor: "RubyGems", text: "rubygems_", kind: Token, tail: 30, solid: 30},
	{vendor: "Sentry", text: "sntrys_", kind: Token, tail: 20},
	{vendor: "Sentry", text: "sntryu_", kind: Token, tail: 20},
	{vendor: "Shopify", text: "shpat_", kind: Token, tail: 12, solid: 12},
	{vendor: "Shopify", text: "shpca_", kind: Token, tail: 12, solid: 12},
	{vendor: "Shopify", text: "shppa_", kind: Token, tail: 12, solid: 12},
	{vendor: "Shopify", text: "shpss_", kind: Token, tail: 12, solid: 12},
	{vendor: "Slack bot", text: "xoxb-", kind: Token, tail: 10},
	{vendor: "Slack user", text: "xoxp-", kind: Token, tail: 10},
	{vendor: "Slack workspace", text: "xoxa-", kind: Token, tail: 10},
	{vendor: "Slack refresh", text: "xoxr-", kind: Token, tail: 10},
	{vendor: "Slack session", text: "xoxs-", kind: Token, tail: 10},
	{vendor: "Slack session", text: "xoxc-", kind: Token, tail: 10},
	{vendor: "Slack cookie", text: "xoxd-", kind: Token, tail: 10},
	{vendor: "Slack configuration", text: "xoxe-", kind: Token, tail: 10},
	{vendor: "Slack app", text: "xapp-", kind: Token, tail: 10},
	{vendor: "SonarQube", text: "sqp_", kind: Token, tail: 40, solid: 40},
	{vendor: "SonarQube", text: "squ_", kind: Token, tail: 40, solid: 40},
	{vendor: "SonarQube", text: "sqa_", kind: Token, tail: 40, solid: 40},
	{vendor: "Square", text: "sq0atp-", kind: Token, tail: 16},
	{vendor: "Square", text: "sq0csp-", kind: Token, tail: 16},
	{vendor: "Square", text: "EAAA", kind: Token, tail: 56},
	{vendor: "Stripe", text: "sk_live_", kind: Token, tail: 10, solid: 8},
	{vendor: "Stripe", text: "sk_test_", kind: Token, tail: 10, solid: 8},
	{vendor: "Stripe", text: "rk_live_", kind: Token, tail: 10, solid: 8},
	{vendor: "Stripe", text: "rk_test_", kind: Token, tail: 10, solid: 8},
	{vendor: "Stripe webhook", text: "whsec_", kind: Token, tail: 12, solid: 12},
	{vendor: "Supabase", text: "sbp_", kind: Token, tail: 40, solid: 40},
	{vendor: "Tailscale", text: "tskey-", kind: Token, tail: 12},
	{vendor: "Twilio", text: "SK", kind: Token, tail: 32, solid: 32, form: exactHex},
	{vendor: "Typeform", text: "tfp_", kind: Token, tail: 40},
	{vendor: "xAI", text: "xai-", kind: Token, tail: 60, solid: 60},
}

// dottedWords are the words before a point that begin a credential: Vault, Google
// access tokens, SendGrid, Slack rotation, Dynatrace.
var dottedWords = [...]string{"hvs", "hvb", "hvr", "ya29", "SG", "dt0c01", "dt0s01", "dt0s16"}

// automaton finds every prefix in one pass over a run (Aho and Corasick, 1975):
// next holds, per state and class of byte, the next state, with the flag ends when a
// prefix ends there; hit, per state, the prefix that ends there, plus one; fail, the
// state of its longest proper suffix with a hit. Only runs of minRun characters are
// fed to it, since no credential is shorter, so that most texts cost nothing.
//
// The two known libraries do not fit: cloudflare/ahocorasick tells which words
// occur, but not where; BobuSumisu/aho-corasick allocates a match per hit and a
// slice per call. BenchmarkPrefixes compares the automaton with trying every prefix
// at every place.
type automaton struct {
	next  [][classes]uint16
	hit   []uint8
	fail  []uint16
	class [256]uint8
}

// classes are those of bytes: the run characters, and 0 for all others.
const classes = 26*2 + 10 + 3 + 1

// ends flags a state at which a prefix ends.
const ends = 1 << 15

var prefixFinder = newAutomaton()

func newAutomaton() *automaton {
	a := &automaton{}
	n := uint8(0)
	for c := range 256 {
		if class[c]&run != 0 {
			n++
			a.class[c] = n
		}
	}
	add := func() uint16 {
		a.next, a.hit, a.fail = append(a.next, [classes]uint16{}), append(a.hit, 0), append(a.fail, 0)
		return uint16(len(a.next) - 1)
	}
	add()
	for i := range prefixes {
		at := uint16(0)
		for _, c := range []byte(prefixes[i].text) {
			to := a.next[at][a.class[c]]
			if to == 0 {
				to = add()
				a.next[at][a.class[c]] = to
			}
			at = to
		}
		a.hit[at] = uint8(i + 1)
	}
	a.link()
	return a
}

// link fills in the transitions on which no prefix goes on, level by level, and then
// the flags.
func (a *automaton) link() {
	suffix := make([]uint16, len(a.next))
	var queue []uint16
	for _, to := range a.next[0] {
		if to != 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		s := suffix[at]
		if a.fail[at] = s; a.hit[s] == 0 {
			a.fail[at] = a.fail[s]
		}
		for c := range classes {
			if to := a.next[at][c]; to != 0 {
				suffix[to] = a.next[s][c]
				queue = append(queue, to)
			} else {
				a.next[at][c] = a.next[s][c]
			}
		}
	}
	for at := range a.next {
		for c, to := range a.next[at] {
			if a.hit[to] != 0 || a.fail[to] != 0 {
				a.next[at][c] |= ends
			}
		}
	}
}

// find returns where in the run s[i:j] a credential with a known prefix begins.
func (a *automaton) find(s string, i, j int) (from int, p *prefix) {
	state := uint16(0)
	for k := i; k < j; k++ {
		state = a.next[state][a.class[s[k]]]
		if state&ends == 0 {
			continue
		}
		state &^= ends
		for at := state; at != 0; at = a.fail[at] {
			if a.hit[at] == 0 {
				continue
			}
			p := &prefixes[a.hit[at]-1]
			if begin := k + 1 - len(p.text); p.fits(s[k+1:j], begin == i) {
				return begin, p
			}
		}
	}
	return 0, nil
}

// exacts are the prefixes whose credentials have letters of one case only, digits,
// and no more. They alone are looked for in a run that has no more than that, as most
// identifiers have, and there they can only begin at one place.
var exacts = func() (list []*prefix) {
	for i := range prefixes {
		if prefixes[i].form != anyTail {
			list = append(list, &prefixes[i])
		}
	}
	return list
}()

// prefixed returns where in the run s[i:j] a credential with a known prefix begins;
// seen are the classes of its characters.
func prefixed(s string, i, j int, seen uint8) (from int, p *prefix) {
	if seen&joint != 0 || seen&(upper|lower) == upper|lower {
		if uuid(s[i:j]) {
			return 0, nil
		}
		return prefixFinder.find(s, i, j)
	}
	for _, p := range exacts {
		if begin := j - p.solid - len(p.text); begin >= i && strings.HasPrefix(s[begin:j], p.text) && p.fits(s[begin+len(p.text):j], begin == i) {
			return begin, p
		}
	}
	return 0, nil
}

// fits reports whether what follows the prefix in its run makes it a credential.
func (p *prefix) fits(tail string, first bool) bool {
	if len(tail) < p.tail {
		return false
	}
	only := p.only
	if only == 0 {
		only = digit | upper | lower
	}
	n := 0
	for n < len(tail) && class[tail[n]]&only != 0 {
		n++
	}
	switch {
	case n < p.solid:
		return false
	case p.form == exact:
		return n == p.solid && n == len(tail)
	case p.form == exactHex:
		return first && n == p.solid && n == len(tail) && hexadecimal(tail)
	}
	return true
}

func hexadecimal(s string) bool {
	for i := range len(s) {
		if c := s[i]; class[c]&digit == 0 && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// dotted reports whether a word, or the end of one, begins a credential that goes on
// after a point.
func dotted(word string) bool { return slices.Contains(dottedWords[:], word) }
