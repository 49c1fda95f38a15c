-- Everything about one user, key, token, session, device, host, certificate or address.
-- value: the identifier; an address is written as usual
-- hours = 24: how far back
-- rows = 1000: how many rows at most
SELECT ts, type, network, service, host, cause, status, endpoint, user_id, key_id, session_id, cert_id,
    if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', '')) AS source, reason, topic, partition, offset, idx
FROM events FINAL
WHERE ts >= now64(9, 'UTC') - toIntervalHour({hours:UInt32})
    AND (user_id = {value:String} OR key_id = {value:String} OR token_id = {value:String} OR session_id = {value:String} OR device_id = {value:String}
        OR host = {value:String} OR cert_id = {value:String} OR actor = {value:String} OR request_id = {value:String}
        OR source_ip = toIPv6OrDefault({value:String}, toIPv6('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')))
ORDER BY ts, topic, partition, offset, idx
LIMIT {rows:UInt32}
