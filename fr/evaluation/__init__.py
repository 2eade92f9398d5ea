"""Accuracy, calibration and studies of trained models, from stored samples."""
