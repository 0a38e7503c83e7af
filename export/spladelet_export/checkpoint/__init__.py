"""Reading checkpoints: where their parts are, what their vectors mean, and which are refused."""
