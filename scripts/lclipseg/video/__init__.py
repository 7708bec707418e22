"""Videos, cameras and watched folders, frame by frame."""
