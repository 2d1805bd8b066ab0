"""The JSON files that stages write for each other and for the user: one module for each writer."""
