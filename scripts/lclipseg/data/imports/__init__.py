"""What labelling tools export, one reader a format, brought into the layout that training reads."""
