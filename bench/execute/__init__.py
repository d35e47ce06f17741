"""Execution of whole blocks, parallel against serial: workloads, the measured run, the schedule model, the plot."""
