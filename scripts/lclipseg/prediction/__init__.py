"""From images to label maps and scores."""
