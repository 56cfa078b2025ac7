"""What Prometheus and Grafana need to watch a fleet. Builders of texts, and one function that writes them."""
