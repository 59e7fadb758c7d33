"""Copies of runs and data on a store that machines share by URL (cluster.storage), in place of a shared folder."""
