"""Choice of an intervention for each failure: routers and their evaluation."""
