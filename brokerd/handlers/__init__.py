"""What each request does, a module for each subject. Who may ask is in brokerd.routes."""
