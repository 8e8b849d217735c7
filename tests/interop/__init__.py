"""Real programs on the loop: each file here runs one library's real workload over every back end."""
