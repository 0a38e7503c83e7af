"""The command `spladelet`: a module for each kind of subcommands, and the door to the terminal."""
