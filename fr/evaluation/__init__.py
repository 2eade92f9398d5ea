"""Accuracy, calibration, clusters, audits and studies, from stored attempts."""
