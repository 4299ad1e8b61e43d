"""One file per neural mass: its equations, its parameters and where they come from."""
