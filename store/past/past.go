// Package past reads from ClickHouse what detection may have known when an event
// came, so that its cause can be explained afterwards.
package past

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/store"
)

// Reader reads stored events and what bears on them.
type Reader struct{ Client *store.Client }

// querier gives a client the shape that readers of events ask for.
type querier struct{ *store.Client }

// Query implements stored.Querier.
func (q querier) Query(ctx context.Context, sql string, params map[string]string) (stored.Rows, error) {
	rows, err := q.Client.Query(ctx, sql, params)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// EventAt is the stored event at one place in Kafka; false when there is none.
func (r Reader) EventAt(ctx context.Context, ref event.Ref) (event.Event, bool, error) {
	tail, params := stored.ByRef(ref)
	got, err := r.events(ctx, tail, params)
	if err != nil || len(got) == 0 {
		return event.Event{}, false, err
	}
	return got[0], true, nil
}

// EventsByID are the stored events with an id, the newest first, ten at most.
func (r Reader) EventsByID(ctx context.Context, id string) ([]event.Event, error) {
	tail, params := stored.ByID(id)
	return r.events(ctx, tail, params)
}

func (r Reader) events(ctx context.Context, tail string, params map[string]string) ([]event.Event, error) {
	got, err := stored.Events(ctx, querier{r.Client}, tail, params)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	for i := range got { // the table writes an address that was not told as ::
		for _, a := range []*netip.Addr{&got[i].SourceIP, &got[i].ClientIP} {
			if a.IsUnspecified() {
				*a = netip.Addr{}
			}
		}
	}
	return got, nil
}

// How far back what bears on a cause is looked for.
const (
	pastHosts    = 48 * time.Hour
	pastTokens   = 24 * time.Hour
	pastSessions = 31 * 24 * time.Hour
	pastClocks   = time.Hour
	// maxPast bounds the events of one question.
	maxPast = 1000
)

// Past is what was stored before e and bears on its cause: what detection may have
// known when e came, as far as records tell of it. Of the clocks it reads those of
// e's host and of the host that minted e's token.
func (r Reader) Past(ctx context.Context, e *event.Event) (*detect.Past, error) {
	p := &past{r: r, e: e, out: &detect.Past{Clocks: map[string]offset.Estimate{}}}
	p.params = map[string]string{
		"network": e.Network, "host": e.Host, "token": e.TokenID, "session": e.SessionID, "user": e.UserID, "device": e.DeviceID,
		"ref_at": nanos(e.ObservedAt), "at": nanos(e.TS), "tokens": nanos(e.ObservedAt.Add(-pastTokens)), "hosts": nanos(e.ObservedAt.Add(-pastHosts)),
		"sessions": nanos(e.ObservedAt.Add(-pastSessions)), "max": strconv.Itoa(maxPast),
	}
	for _, step := range []func(context.Context) error{p.keys, p.certificates, p.related, p.hosts, p.used, p.clocks} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p.out, nil
}

func nanos(i event.Instant) string { return strconv.FormatInt(int64(i), 10) }

// past is one call of Past.
type past struct {
	r      Reader
	e      *event.Event
	params map[string]string
	out    *detect.Past
	minter string
}

// keys are those of the network as they stood then.
func (p *past) keys(ctx context.Context) error {
	all, err := p.r.Client.ServerKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range all {
		if k.Network != p.e.Network {
			continue
		}
		row := detect.Key{Network: k.Network, KeyID: k.KeyID, Source: "store"}
		if len(k.ToldBy) > 0 {
			row.Source = k.ToldBy[0]
		}
		for _, s := range []struct {
			state detect.KeyState
			at    event.Instant
			to    *event.Instant
		}{{detect.KeyCreated, k.Created, &row.Created}, {detect.KeyActive, k.Activated, &row.Activated}, {detect.KeyRetired, k.Retired, &row.Retired}, {detect.KeyRevoked, k.Revoked, &row.Revoked}} {
			if s.at != 0 && s.at <= p.e.TS {
				row.State, *s.to = s.state, s.at
			}
		}
		if row.State != "" {
			p.out.Keys = append(p.out.Keys, row)
		}
	}
	return nil
}

func (p *past) certificates(ctx context.Context) error {
	all, err := p.r.Client.Certificates(ctx)
	if err != nil {
		return err
	}
	for _, k := range all {
		if k.Network != p.e.Network || k.State == "requested" {
			continue
		}
		row := detect.SnapshotCertificate{Network: k.Network, CertID: k.CertID, CN: k.CN, Service: k.Service, NotBefore: k.NotBefore, NotAfter: k.NotAfter}
		if k.Activated != 0 && k.Activated <= p.e.TS {
			row.Toggled = k.Activated
		}
		if k.DisabledAt > row.Toggled && k.DisabledAt <= p.e.TS {
			row.Toggled, row.Disabled = k.DisabledAt, true
		}
		p.out.Certificates = append(p.out.Certificates, row)
	}
	return nil
}

// Rows that were appended after the event were not known when it was judged.
const pastBound = " AND observed_at <= fromUnixTimestamp64Nano({ref_at:Int64}, 'UTC')"

const pastRelated = `WHERE network = {network:String}` + pastBound + ` AND (
	type IN ('secure_mode.enabled', 'secure_mode.disabled')
	OR (type = 'auth_token.issued' AND {token:String} != '' AND token_id = {token:String} AND observed_at >= fromUnixTimestamp64Nano({tokens:Int64}, 'UTC'))
	OR (type IN ('session.created', 'session.revoked') AND observed_at >= fromUnixTimestamp64Nano({sessions:Int64}, 'UTC') AND (
		({user:String} != '' AND user_id = {user:String}) OR ({session:String} != '' AND session_id = {session:String}) OR ({device:String} != '' AND device_id = {device:String})))
	OR (type IN ('heartbeat', 'host.started', 'host.stopped') AND host = {host:String} AND host != '' AND observed_at >= fromUnixTimestamp64Nano({tokens:Int64}, 'UTC')))
ORDER BY observed_at DESC, topic, partition, offset, idx LIMIT {max:UInt32}`

// related are the events about the network's settings, the token, the session and
// the host.
func (p *past) related(ctx context.Context) error {
	got, err := p.r.events(ctx, pastRelated, p.params)
	if err != nil {
		return err
	}
	for i := len(got) - 1; i >= 0; i-- {
		if got[i].Type == event.TypeAuthTokenIssued && got[i].Origin == event.OriginBackend {
			p.minter = got[i].Host
		}
		p.out.Events = append(p.out.Events, got[i])
	}
	if p.e.Status == 403 && (p.e.Type == event.TypeAuthTokenDenied || p.e.Type == event.TypeRequestUnauthorized) {
		return p.refusals(ctx)
	}
	return nil
}

// refusals are the last mint that succeeded and the first that was refused with 403
// since, for a refusal that may be about the whole network.
func (p *past) refusals(ctx context.Context) error {
	const last = `WHERE network = {network:String} AND type = 'auth_token.issued'` + pastBound + `
AND observed_at >= fromUnixTimestamp64Nano({tokens:Int64}, 'UTC') ORDER BY observed_at DESC LIMIT 1`
	const first = `WHERE network = {network:String} AND type = 'auth_token.denied' AND status = 403` + pastBound + `
AND observed_at > fromUnixTimestamp64Nano({since:Int64}, 'UTC') ORDER BY observed_at LIMIT 1`
	mints, err := p.r.events(ctx, last, p.params)
	if err != nil {
		return err
	}
	p.params["since"] = p.params["tokens"]
	if len(mints) > 0 {
		p.params["since"] = nanos(mints[0].ObservedAt)
	}
	denied, err := p.r.events(ctx, first, p.params)
	p.out.Events = append(append(p.out.Events, mints...), denied...)
	return err
}

// hosts are the named host, the one that minted the token, and those that mint from
// the caller's address.
func (p *past) hosts(ctx context.Context) error {
	p.params["minter"], p.params["source"] = p.minter, "::"
	if p.e.SourceIP.IsValid() {
		p.params["source"] = netip.AddrFrom16(p.e.SourceIP.As16()).String()
	}
	rows, err := p.r.Client.Query(ctx, `SELECT host, key_id, any(service), toUnixTimestamp64Nano(min(ts)), toUnixTimestamp64Nano(max(ts)), count(), groupUniqArray(16)(source_ip)
FROM events FINAL
WHERE network = {network:String} AND type = 'auth_token.issued' AND origin = 'backend' AND host != ''`+pastBound+`
	AND observed_at >= fromUnixTimestamp64Nano({hosts:Int64}, 'UTC')
	AND (host IN ({host:String}, {minter:String}) OR ({source:String} != '::' AND source_ip = toIPv6({source:String})))
GROUP BY host, key_id ORDER BY host, key_id LIMIT {max:UInt32}`, p.params)
	if err != nil {
		return fmt.Errorf("read hosts: %w", err)
	}
	defer func() { _ = rows.Close() }()
	byName := map[string]*detect.SnapshotHost{}
	var order []string
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		name := vals[0].(string)
		h := byName[name]
		if h == nil {
			h = &detect.SnapshotHost{Network: p.e.Network, Host: name, Service: vals[2].(string)}
			byName[name], order = h, append(order, name)
		}
		first, last := event.Instant(vals[3].(int64)), event.Instant(vals[4].(int64))
		if h.FirstMint == 0 || first < h.FirstMint {
			h.FirstMint = first
		}
		h.LastMint = max(h.LastMint, last)
		h.LastSeen = h.LastMint
		h.Keys = append(h.Keys, detect.SnapshotKeyUse{KeyID: vals[1].(string), First: first, Last: last, Mints: vals[5].(uint64)})
		for _, ip := range vals[6].([]net.IP) {
			if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() {
				h.Sources = append(h.Sources, a.Unmap())
			}
		}
	}
	for _, name := range order {
		p.out.Hosts = append(p.out.Hosts, *byName[name])
	}
	return rows.Err()
}

// used are the keys and regions that the network used before, to the hour, and since
// when its mints and sessions are stored.
func (p *past) used(ctx context.Context) error {
	rows, err := p.r.Client.Query(ctx, `SELECT toString(type), key_id, toInt64(toUnixTimestamp(min(minute))), toInt64(toUnixTimestamp(max(minute)))
FROM auth_minutely FINAL
WHERE network = {network:String} AND type IN ('auth_token.issued', 'session.created') AND minute <= toDateTime(intDiv({at:Int64}, 1000000000), 'UTC') AND events > 0
GROUP BY type, key_id ORDER BY type, key_id LIMIT {max:UInt32}`, p.params)
	if err != nil {
		return fmt.Errorf("read the keys in use: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		first, last := event.Instant(vals[2].(int64)*1e9), event.Instant(vals[3].(int64)*1e9)
		since := &p.out.SessionsSince
		if vals[0] == event.TypeAuthTokenIssued.String() {
			since = &p.out.MintsSince
			if id := vals[1].(string); id != "" {
				p.out.Used = append(p.out.Used, detect.KeyUsed{KeyID: id, First: first, Last: last})
			}
		}
		if *since == 0 || first < *since {
			*since = first
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return p.regions(ctx)
}

func (p *past) regions(ctx context.Context) error {
	rows, err := p.r.Client.Query(ctx, `SELECT DISTINCT toString(region) AS r FROM events
WHERE network = {network:String} AND type IN ('auth_token.issued', 'session.created') AND region != ''`+pastBound+`
	AND observed_at >= fromUnixTimestamp64Nano({tokens:Int64}, 'UTC') ORDER BY r LIMIT 64`, p.params)
	if err != nil {
		return fmt.Errorf("read the regions in use: %w", err)
	}
	defer func() { _ = rows.Close() }()
	n := detect.SnapshotNetwork{Network: p.e.Network}
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		n.Regions = append(n.Regions, vals[0].(string))
	}
	p.out.Networks = append(p.out.Networks, n)
	return rows.Err()
}

// clocks are the estimates that held then.
func (p *past) clocks(ctx context.Context) error {
	p.params["clocks"] = nanos(p.e.ObservedAt.Add(-pastClocks))
	rows, err := p.r.Client.Query(ctx, `SELECT toString(host), offset_seconds, error_seconds, drift_seconds_per_hour, anchored, confident, samples, toInt64(toUnixTimestamp(minute))
FROM clock_offsets FINAL
WHERE host IN ({host:String}, {minter:String}) AND host != '' AND minute BETWEEN toDateTime(intDiv({clocks:Int64}, 1000000000), 'UTC') AND toDateTime(intDiv({ref_at:Int64}, 1000000000), 'UTC')
ORDER BY host, anchored, minute, samples`, p.params)
	if err != nil {
		return fmt.Errorf("read clock offsets: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		vals, err := rows.Values()
		if err != nil {
			return err
		}
		est := offset.Estimate{Offset: time.Duration(vals[1].(float64) * 1e9), Error: time.Duration(vals[2].(float64) * 1e9), Slope: vals[3].(float64),
			Anchored: vals[4].(bool), Confident: vals[5].(bool), Records: vals[6].(uint64), AsOf: event.Instant(vals[7].(int64) * 1e9)}
		est.SlowOrDelayed = !est.Anchored && est.Offset < 0
		p.out.Clocks[vals[0].(string)] = est // the last of them counts
	}
	return rows.Err()
}
