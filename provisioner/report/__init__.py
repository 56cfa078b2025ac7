"""What is shown of runs and of the history: tables, pages, plots, figures for Prometheus. Reads, changes nothing."""
