"""What webd keeps on disk: who is signed in. Everything else it shows, it asks for."""
