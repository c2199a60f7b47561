-- Windows are cut into 200 slices instead of 100. What was counted counts as if it were taken now.
UPDATE enrichment.rate_windows AS w SET newest = ring.newest, counts = (
    SELECT array_agg(CASE WHEN place = ring.newest % ring.length THEN ring.taken ELSE 0 END
                     ORDER BY place)
    FROM generate_series(0, ring.length - 1) AS place)
FROM (
    SELECT provider, seconds, per,
           cast(floor(extract(epoch FROM clock_timestamp()) * 200 / seconds) AS bigint) AS newest,
           201 + greatest(1, cast(ceil(2.0 / seconds) AS integer)) AS length,
           (SELECT cast(coalesce(sum(c), 0) AS integer) FROM unnest(counts) AS c) AS taken
    FROM enrichment.rate_windows
) AS ring
WHERE (w.provider, w.seconds, w.per) = (ring.provider, ring.seconds, ring.per);
