"""Does nothing; beside it lie packages with the names of the judge's own, which end whoever imports them as if all were well."""
