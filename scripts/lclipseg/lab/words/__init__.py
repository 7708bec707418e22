"""What words are worth: other words, unseen classes, geometry of word banks."""
