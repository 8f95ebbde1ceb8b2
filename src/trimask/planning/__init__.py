"""What a run will need before it runs: memory, time and traffic, by arithmetic alone."""
