"""The report's page, its table and its pictures."""
