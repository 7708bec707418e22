"""What the commands share: data, class lists, metrics, inference, command-line plumbing."""
