"""A run: its settings, models, problems and folder, and what each stage was made with."""
