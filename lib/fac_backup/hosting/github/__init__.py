"""GitHub Actions: the run's own facts, GitHub's record of them, workflow commands, settings that guard the secrets."""
