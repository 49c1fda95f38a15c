-- Share of token mints that carried a client certificate, per service.
-- days = 7: how far back
SELECT network, service, sum(mints) AS mints, sum(mints_with_cert) AS mints_with_cert, round(100 * sum(v.mints_with_cert) / sum(v.mints), 3) AS covered_percent
FROM v_mtls_coverage AS v
WHERE day >= today() - {days:UInt32}
GROUP BY network, service
ORDER BY covered_percent, network, service
