"""Wide studies: every combination of products, fleets, traces and parameters, on one process or on many."""
