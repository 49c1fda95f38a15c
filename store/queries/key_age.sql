-- Age and last use of every server key.
SELECT * FROM v_key_age ORDER BY age_days DESC NULLS FIRST, network, key_id
