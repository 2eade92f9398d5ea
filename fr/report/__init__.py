"""Tables for a terminal and plots for a paper."""
