"""Research on the project itself: comparisons, timings, figures. Not part of the installed package."""
