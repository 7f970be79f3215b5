-- How much the log odds of each kind of flight lie above or below those of all, shrunk towards nothing.
with total as (select sum(late) + 0.5 as l, count(*) - sum(late) + 0.5 as p from flights),
kinds as (
    select 'carrier' as kind, carrier as name, late from flights
    union all select 'origin', origin, late from flights
    union all select 'dest', dest, late from flights
    union all select 'dow', dow::varchar, late from flights
    union all select 'carrier at origin', carrier || '@' || origin, late from flights
    union all select 'hour', (hour + step)::varchar, late from flights, (select unnest([-1, 0, 1]) as step) -- and its neighbours
),
counts as (select kind, name, sum(late) as l, count(*) - sum(late) as p from kinds where name is not null group by all)
select kind, name, ln((c.l + prior * t.l / (t.l + t.p)) / (c.p + prior * t.p / (t.l + t.p))) - ln(t.l / t.p) as shift
from counts c, total t, (select $prior::double as prior)
order by kind, name
