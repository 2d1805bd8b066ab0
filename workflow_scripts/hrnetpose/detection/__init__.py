"""Finding persons with a detector."""
