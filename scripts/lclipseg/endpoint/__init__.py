"""What serves a published model on the Hub; it travels alone, so it imports nothing of the package."""
