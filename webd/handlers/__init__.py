"""What is done for each request; what each is for and who may ask stands in webd.routes."""
