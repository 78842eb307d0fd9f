"""Images: where they come from, how they are stored, how they are augmented."""
