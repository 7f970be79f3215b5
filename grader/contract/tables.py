"""The tables that the grader hands over, column by column: type, unit, meaning, and when a value is known."""

from __future__ import annotations

from grader.contract.parts import Column, Table

TEXT, REAL, TIME = "string", "float64", "timestamp[us, UTC]"
BEFORE, DEPARTED, LANDED, OBSERVED = "always", "`dep_known_at`", "`label_known_at`", "`known_at`"

SCHEDULE = (
    Column("carrier", TEXT, "Airline code, a key of `airlines`."),
    Column("flight_no", "int32", "Flight number of the airline."),
    Column("tailnum", TEXT, "Aircraft, a key of `planes` for most.", nullable=True),
    Column("origin", TEXT, "Airport of departure: one of the New York three, EWR, JFK or LGA."),
    Column("dest", TEXT, "Airport of arrival; four are not in `airports`, which is no error."),
    Column("sched_dep", TIME, "Scheduled departure."),
    Column("sched_arr", TIME, "Scheduled arrival.", nullable=True),
    Column("sched_dep_local", TEXT, "Scheduled departure by the clock on the wall in New York, `YYYY-MM-DDTHH:MM`."),
    Column("distance_miles", REAL, "Distance between the airports.", "miles"),
)
AFTER_DEPARTURE = (
    Column("dep_time", TIME, "Actual departure.", "", DEPARTED, True),
    Column("dep_delay_min", REAL, "Departure after schedule; negative when early.", "minutes", DEPARTED, True),
    Column("dep_known_at", TIME, "When the departure became known; null if it never departed.", "", DEPARTED, True),
    Column("arr_time", TIME, "Actual arrival.", "", LANDED, True),
    Column(
        "arr_delay_min", REAL, "Arrival after schedule. **The label is `arr_delay_min > 15`.**", "minutes", LANDED, True
    ),
    Column("air_time_min", REAL, "Time in the air.", "minutes", LANDED, True),
    Column("outcome", TEXT, "`flown`, `cancelled` or `diverted`; only flown flights have a label.", "", LANDED),
    Column("label_known_at", TIME, "When the label became known: at landing; null if never.", "", LANDED, True),
)
FLIGHTS = Table(
    "flights",
    "flights/YYYY-MM.parquet",
    "one scheduled departure from New York; the month is that of `sched_dep_local`",
    ("flight_id",),
    (Column("flight_id", TEXT, "Opaque and unique."), *SCHEDULE, *AFTER_DEPARTURE),
)
WEATHER = Table(
    "weather",
    "weather/YYYY-MM.parquet",
    "one hourly observation at an airport of departure; some flights have none for their hour, about one in 200 in your data",
    ("origin", "observed_at"),
    (
        Column("origin", TEXT, "Airport."),
        Column("observed_at", TIME, "The hour of the observation.", "", OBSERVED),
        Column("known_at", TIME, "When it could be used: an hour later.", "", OBSERVED),
        Column("temp", REAL, "Air temperature.", "degrees Fahrenheit", OBSERVED, True),
        Column("dewp", REAL, "Dew point.", "degrees Fahrenheit", OBSERVED, True),
        Column("humid", REAL, "Relative humidity.", "percent", OBSERVED, True),
        Column("wind_dir", REAL, "Where the wind comes from.", "degrees", OBSERVED, True),
        Column("wind_speed", REAL, "Wind.", "miles per hour", OBSERVED, True),
        Column("wind_gust", REAL, "Gusts; mostly null, as there are none to report.", "miles per hour", OBSERVED, True),
        Column("precip", REAL, "Rain and snow in the hour.", "inches", OBSERVED, True),
        Column("pressure", REAL, "Air pressure at sea level.", "millibars", OBSERVED, True),
        Column("visib", REAL, "Visibility, at most 10.", "miles", OBSERVED, True),
    ),
)
PLANES = Table(
    "planes",
    "planes.parquet",
    "one aircraft; not every `tailnum` of the flights is here",
    ("tailnum",),
    (
        Column("tailnum", TEXT, "The aircraft."),
        Column("built", REAL, "Year it was built.", "year", nullable=True),
        Column("type", TEXT, "Kind of aircraft."),
        Column("manufacturer", TEXT, "Who built it."),
        Column("model", TEXT, "Model."),
        Column("engines", "int16", "Number of engines."),
        Column("seats", "int16", "Number of seats."),
        Column("engine", TEXT, "Kind of engine."),
    ),
)
AIRPORTS = Table(
    "airports",
    "airports.parquet",
    "one airport",
    ("airport",),
    (
        Column("airport", TEXT, "Code of the airport, as in `origin` and `dest`."),
        Column("name", TEXT, "Name."),
        Column("lat", REAL, "Latitude.", "degrees north"),
        Column("lon", REAL, "Longitude.", "degrees east"),
        Column("altitude_ft", "int64", "Altitude.", "feet"),
        Column("zone", TEXT, "Time zone, as in the IANA database."),
    ),
)
AIRLINES = Table(
    "airlines",
    "airlines.parquet",
    "one airline; this table decides which carriers exist",
    ("carrier",),
    (Column("carrier", TEXT, "Code of the airline."), Column("name", TEXT, "Name.")),
)
DATA = (FLIGHTS, WEATHER, PLANES, AIRPORTS, AIRLINES)

ROW_ID = Column("row_id", TEXT, "Opaque and unique; says nothing about the flight.")
ROWS = Table("rows to score", "one Parquet file", "one flight to score", ("row_id",), (ROW_ID, *SCHEDULE))
PREDICTION = (
    Column("row_id", TEXT, "As in the rows to score."),
    Column(
        "probability", REAL, "Probability that the flight arrives more than 15 minutes late, 0 to 1, never null or NaN."
    ),
)
VALIDATION = (
    Column("row_id", TEXT, "The `flight_id` of a flown flight of the data."),
    Column("probability", REAL, "What your model said about it without having learned from it, 0 to 1."),
)
LOGGED_VALIDATION = (
    Column("row_id", TEXT, "The `flight_id` of a validation row, each once, in any order."),
    Column("probability", REAL, "What the logged model says about it, 0 to 1."),
    Column("label", "bool", "Whether it was late."),
)
STALENESS = (
    Column("train_end", TEXT, "Last day of the training window, `YYYY-MM-DD`."),
    Column("scored_month", TEXT, "`YYYY-MM`."),
    Column("age_months", "int64", "How many months later that is: 1 for the month after `train_end`."),
    Column("n", "int64", "Landed flights of that month in the data; all are scored."),
    Column("log_loss", REAL, "As `valid.log_loss`, on these flights."),
    Column("brier", REAL, "As `valid.brier`."),
    Column("auc", REAL, "As `valid.auc`."),
)
QUARANTINE = (
    Column("table", TEXT, "The table of the row."),
    Column(
        "source_row", "int64", "The number of the row in its table, from 0, over the files in the order of their names."
    ),
    Column("rule", TEXT, "The rule that it breaks."),
    Column("column", TEXT, "The column at fault; null for `duplicate_key`.", nullable=True),
)
PREDICTION_LOG = (
    Column("request_id", TEXT, "As in the answer."),
    Column("row_id", TEXT, "As in the request.", nullable=True),
    Column("answered_at", TIME, "When: between the arrival of the request and the end of its answer."),
    Column("model_version", TEXT, "The version that scored it.", nullable=True),
    Column("probability", REAL, "The answer.", nullable=True),
    Column("status", "int64", "HTTP status of the answer."),
)
WINDOW_LABELS = (
    Column("row_id", TEXT, "As in the rows."),
    Column("label", "bool", "Whether the flight was late."),
    Column("label_known_at", TIME, "When that became known."),
)
WINDOW_ROWS = (
    Column("row_id", TEXT, "Opaque and unique."),
    Column("<feature>", "as it is", "What the service computed; text or number, null where there is none."),
    Column("probability", REAL, "What it answered."),
)
