"""Coverage-guided fuzzing of every decoder, outside the tests' own run: `make fuzz`."""
