-- One row per row, in the order of the file; what was never seen shifts nothing.
with asked as (
    select file_row_number as place, carrier, origin, dest,
           try_cast(substr(sched_dep_local, 12, 2) as int) as hour,
           dayofweek(try_cast(substr(sched_dep_local, 1, 10) as date)) as dow
    from read_parquet($rows, file_row_number = true)
),
named as (
    select place, 'carrier' as kind, carrier as name from asked
    union all select place, 'origin', origin from asked
    union all select place, 'dest', dest from asked
    union all select place, 'dow', dow::varchar from asked
    union all select place, 'carrier at origin', carrier || '@' || origin from asked
    union all select place, 'hour', hour::varchar from asked
)
select a.place, coalesce(sum(r.shift::decimal(18, 9)), 0)::double as score -- decimals: the same sum in any order
from asked a left join named n using (place) left join rates r using (kind, name)
group by a.place order by a.place
