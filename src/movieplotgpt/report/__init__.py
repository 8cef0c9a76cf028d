"""What was found, told: RESULTS.md, and one page that needs nothing else."""
