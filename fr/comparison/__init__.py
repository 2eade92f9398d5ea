"""The comparison of routers: rows with intervals, certified lifts, power, transfer."""
