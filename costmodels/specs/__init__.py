"""Descriptions of model, cluster, plan, precision and workload."""
