select carrier, origin, dest,
       coalesce(try_cast(substr(sched_dep_local, 12, 2) as int), -1) as hour,
       coalesce(dayofweek(try_cast(substr(sched_dep_local, 1, 10) as date)), -1) as dow,
       (arr_delay_min > $late_minutes)::int as late
from read_parquet($files)
where arr_delay_min is not null and not isnan(arr_delay_min)
  and substr(sched_dep_local, 1, 10) between $first and $last
  and substr(md5(flight_id), 1, 1) in ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a')
