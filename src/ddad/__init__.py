"""Anomaly detection in medical images without annotated abnormalities."""
