-- What detection derives of an event and rules may ask for.
{{alter "events" "ADD COLUMN IF NOT EXISTS traits LowCardinality(String) COMMENT 'Facts that the registries knew when the event was judged: words of a closed list, sorted, one space between' AFTER cause_confidence"}}
{{alter "events" "ADD COLUMN IF NOT EXISTS source_net String COMMENT 'Network of source_ip: AS64500 where the table of networks knew it, else its /24 or /48' AFTER client_ip"}}

-- Views for people, one per question. Each reads FINAL, so copies never count.
{{view "v_events"}} AS
SELECT
    * EXCEPT (source_ip, client_ip, present),
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source_ip,
    if(client_ip = toIPv6('::'), '', replaceOne(toString(client_ip), '::ffff:', '')) AS client_ip,
    toBool(CAST(type, 'String') IN ('auth_token.denied', 'session.denied', 'request.unauthorized', 'mtls.handshake_failed')) AS refused
FROM events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events, each once, addresses as text (empty when absent); refused tells whether something was denied';
