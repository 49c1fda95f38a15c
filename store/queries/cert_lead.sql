-- Days until each client certificate expires.
SELECT * FROM v_cert_lead ORDER BY lead_days ASC NULLS FIRST, network, cert_id
