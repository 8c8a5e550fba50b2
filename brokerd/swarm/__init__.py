"""Who there is: brokerd follows privd's cages and keeps a socket for each."""
