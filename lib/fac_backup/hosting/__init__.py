"""Where we run: GitHub Actions, Cloud Foundry, a terminal; and what their environments say."""
