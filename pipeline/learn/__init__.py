"""What decides a net's weights, and nothing else: a run's key hashes this folder."""
