"""Is a bundle what its checkpoint is? Tokens, weights, and for int8 what is found."""
