"""What a classifier's probabilities are worth: errors, and how sure a count of images makes them."""
