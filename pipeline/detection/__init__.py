"""What trained detectors find: their detections on a store's images, ensembles of them, and what both are worth."""
