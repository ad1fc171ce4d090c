"""Several nodes on one machine: placement, scaling, a lost node and rolling changes, under real HTTP load."""
