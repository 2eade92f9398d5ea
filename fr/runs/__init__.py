"""A run: config, models, problems and folder, and a record of how stages were made."""
