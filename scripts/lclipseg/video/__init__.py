"""From a video, a camera or a watched folder to overlays, masks and shares, frame by frame."""
