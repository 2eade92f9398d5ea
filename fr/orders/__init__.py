"""Orders of operators within a budget: populations, learned orders, live routers."""
